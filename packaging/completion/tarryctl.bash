# Completion of tarryctl for bash: goes to /usr/share/bash-completion/completions/tarryctl.
_tarryctl()
{
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} socket=() i

    for ((i = 1; i < COMP_CWORD; i++)); do
        [ "${COMP_WORDS[i]}" = -s ] && socket=(-s "${COMP_WORDS[i + 1]}")
    done
    case $previous in
    -s) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    show) mapfile -t COMPREPLY < <(compgen -W "exchanges workers upstreams conf errors process" -- "$word") ;;
    log) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$word") ;;
    pause | resume)
        mapfile -t COMPREPLY < <(compgen -W "$(
            tarryctl "${socket[@]}" show workers 2>/dev/null | awk 'NR > 1 { print $1 }'
            tarryctl "${socket[@]}" show upstreams 2>/dev/null | awk 'NR > 1 { print $1; print $1 "/" $2 }'
        )" -- "$word")
        ;;
    cancel)
        mapfile -t COMPREPLY < <(compgen -W "$(tarryctl "${socket[@]}" show exchanges 2>/dev/null | awk '{ print $1 }')" -- "$word")
        ;;
    *) mapfile -t COMPREPLY < <(compgen -W "show top drain pause resume cancel log -j -s -h" -- "$word") ;;
    esac
}
complete -F _tarryctl tarryctl
