"""Servers of other languages, all of Debian: PHP's own, php-fpm behind nginx, puma. Each runs one program file."""

import dataclasses
import os
import pathlib
import re
import subprocess

from harness import free_port
from sites import Started

MEGABYTES = "64M"


@dataclasses.dataclass(frozen=True)
class Other:
    key: str
    title: str
    file: str  # the program's name in docs/handoff.md
    probe: str  # a program that does nothing
    start: object
    versions: tuple  # (command, pattern of the version) of each part
    settings: str = ""


def _php_server(bed, program, env):
    port = free_port()
    command = ["php", "-d", f"post_max_size={MEGABYTES}", "-d", "memory_limit=256M", "-S", f"127.0.0.1:{port}", program]
    return bed.add(Started("php -S", command, port, env, str(bed.folder)))


FPM = """[global]
error_log = /dev/stderr
daemonize = no
[app]
listen = {folder}/fpm.sock
pm = static
pm.max_children = 1
clear_env = no
catch_workers_output = yes
php_admin_value[post_max_size] = {megabytes}
php_admin_value[memory_limit] = 256M
{user}
"""

NGINX = """daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/nginx.pid;
{user}
events {{ }}
http {{
    access_log off;
    client_max_body_size {megabytes};
    client_body_temp_path {folder}/n1;
    proxy_temp_path {folder}/n2;
    fastcgi_temp_path {folder}/n3;
    uwsgi_temp_path {folder}/n4;
    scgi_temp_path {folder}/n5;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            fastcgi_pass unix:{folder}/fpm.sock;
            fastcgi_param SCRIPT_FILENAME {program};
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
        }}
    }}
}}
"""


def _php_fpm(bed, program, env):
    port, root = free_port(), os.geteuid() == 0
    words = {"folder": bed.folder, "port": port, "program": program, "megabytes": MEGABYTES}
    fpm, nginx = bed.folder / "fpm.conf", bed.folder / "nginx.conf"
    fpm.write_text(FPM.format(user="user = root\ngroup = root" if root else "", **words))
    nginx.write_text(NGINX.format(user="user root;" if root else "", **words))
    command = [_fpm_binary(), "--nodaemonize", "--fpm-config", fpm, *(["--allow-to-run-as-root"] if root else [])]
    made = bed.add(Started("php-fpm", command, 0, env, str(bed.folder)))
    made.wait_line("ready to handle connections")
    return bed.add(Started("nginx", ["/usr/sbin/nginx", "-p", bed.folder, "-e", "stderr", "-c", nginx], port))


def _fpm_binary():
    found = sorted(pathlib.Path("/usr/sbin").glob("php-fpm*"))
    assert found, "no php-fpm: scripts/setup-packages test installs it"
    return found[-1]


def _puma(bed, program, env):
    port = free_port()
    command = ["puma", "-t", "1:1", "-b", f"tcp://127.0.0.1:{port}", program]
    return bed.add(Started("puma", command, port, env, str(bed.folder)))


PHP_PROBE = "<?php echo 'ok';"
RUBY_PROBE = "run(->(env) { [200, { 'Content-Type' => 'text/plain' }, ['ok']] })"
PHP = (("php", "--version"), r"PHP (\d+\.\d+\.\d+)")

OTHERS = {
    other.key: other
    for other in (
        Other("php", "PHP, `php -S`", "app.php", PHP_PROBE, _php_server, (PHP,),
              "`post_max_size` and `memory_limit` above the largest answer"),
        Other("php-fpm", "PHP, php-fpm behind nginx", "app.php", PHP_PROBE, _php_fpm,
              (PHP, (("/usr/sbin/nginx", "-v"), r"nginx/(\S+)")),
              "the same, and nginx's `client_max_body_size`"),
        Other("puma", "Ruby, Rack on puma", "config.ru", RUBY_PROBE, _puma,
              ((("ruby", "--version"), r"ruby (\d+\.\d+\.\d+)"), (("puma", "--version"), r"puma version (\S+)"))),
    )
}


def _installed(command, pattern):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return re.search(pattern, done.stdout)[1]


def version(other, of=_installed):
    """The names of its parts, each with its version."""
    names = {"php": "PHP", "ruby": "Ruby"}
    parts = [(pathlib.Path(command[0]).name, of(command, pattern)) for command, pattern in other.versions]
    return ", ".join(f"{names.get(name, name)} {number}" for name, number in parts)
