#!/bin/sh
# Puts uv, the installer of everything else, into .tools/uv, from PyPI and with its hash checked.
#
# It finds a Python of 3.11 or newer that can make an environment, and notes it in .tools/python. As root on Debian
# or Ubuntu it installs what is missing; as anybody else it says what to install. It touches nothing outside .tools.
# PYTHON names an interpreter to take instead of the first that fits.
set -eu
cd "$(dirname "$0")/.."
wanted='import sys; sys.exit(sys.version_info < (3, 11))'

say() { echo "bootstrap: $*"; }

fail() {
    echo "bootstrap: $*" >&2
    exit 1
}

# The first candidate for which the statement $1 runs without an error, as an absolute path.
find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        if "$candidate" -c "$wanted" >/dev/null 2>&1 && "$candidate" -c "$1" >/dev/null 2>&1; then
            "$candidate" -c 'import os, sys; print(os.path.abspath(sys.executable))'
            return 0
        fi
    done
    return 1
}

# Debian and Ubuntu keep the means to make an environment in a package of its own, named after the version.
venv_package() {
    if system_python=$(find_python "import sys; assert sys.executable.startswith('/usr/bin/')"); then
        "$system_python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    else
        echo python3-venv
    fi
}

apt_install() {
    apt-get -q install --yes --no-install-recommends "$1" </dev/null
}

install_venv() {
    package=$(venv_package)
    [ -z "${PYTHON:-}" ] || fail "$PYTHON is not a Python of 3.11 or newer with venv and ensurepip."
    command -v apt-get >/dev/null 2>&1 ||
        fail "no Python of 3.11 or newer with venv and ensurepip here. Install one, or name it: make PYTHON=/path/to/python3 tools"
    [ "$(id -u)" = 0 ] ||
        fail "no Python of 3.11 or newer with venv and ensurepip here. Install one, for example: sudo apt-get install $package"
    say "installing $package, because Python cannot make an environment without it"
    export DEBIAN_FRONTEND=noninteractive
    apt_install "$package" >/dev/null 2>&1 || { apt-get -q update && apt_install "$package"; } ||
        fail "apt-get could not install $package. Install a Python of 3.11 or newer with venv by hand."
}

mkdir -p .tools
if python=$(find_python 'import ensurepip, venv'); then
    method=venv
elif python=$(find_python 'import pip'); then
    method=pip
else
    install_venv
    python=$(find_python 'import ensurepip, venv') ||
        fail "the Python of this system is older than 3.11. Install a newer one, or name it: make PYTHON=/path/to/python3 tools"
    method=venv
fi

say "Python $("$python" -c 'import platform; print(platform.python_version())') at $python"
say "fetching uv"
rm -rf .tools/uv
set -- install --quiet --disable-pip-version-check --no-input --require-hashes --requirement requirements/bootstrap.txt
if [ "$method" = venv ]; then
    "$python" -m venv .tools/uv
    .tools/uv/bin/python -m pip "$@"
else
    "$python" -m pip "$@" --target .tools/uv
fi
.tools/uv/bin/uv --version >/dev/null
touch .tools/uv/bin/uv
echo "$python" >.tools/python
