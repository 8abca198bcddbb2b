#!/bin/sh
# Makes ./configure from configure.ac. Needed once after a clone; a release archive has it already.
set -e
cd "$(dirname "$0")"
command -v autoreconf >/dev/null 2>&1 || {
    echo "autogen.sh: autoreconf is missing: apt-get install autoconf automake" >&2
    exit 1
}
exec autoreconf --install --force --warnings=all,no-obsolete
