# bash completion for tarry(8)

_tarry() {
    local cur prev words cword
    _init_completion || return
    case $prev in
    -c)
        _filedir conf
        return
        ;;
    -r)
        _filedir -d
        return
        ;;
    -i | -l | --explain | --listen | --backend | --upstream)
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W '-c -i -l -r -t -T -V -h --explain --init --listen --backend --upstream --version --help' -- "$cur")
}
complete -F _tarry tarry
