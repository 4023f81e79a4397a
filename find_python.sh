# Sourced by the shell scripts: sets $python to an interpreter with the packages of a requirements file.
#
#     find_python requirements.txt
#
# An active virtual environment, or a python3 with the packages, is used as it is. Otherwise .venv is made in the clone.

has_packages() { "$1" -m pip install --quiet --dry-run --report /dev/null --no-index -r "$2" >/dev/null 2>&1; }

find_python() {
    local requirements=$here/$1 candidate base="" candidates=(python3 python3.13 python3.12 python3.11 python3.10)
    if [[ -n ${PYTHON-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            base=$candidate
            break
        fi
    done
    if [[ -z $base ]]; then
        echo "error: ${PYTHON:+PYTHON=$PYTHON: }no Python 3.10 or newer; install one, or name it: PYTHON=/path/to/python3" >&2
        return 1
    fi
    python=$base
    has_packages "$python" "$requirements" && return
    if [[ -z ${VIRTUAL_ENV:-} ]]; then python=$here/.venv/bin/python; fi
    has_packages "$python" "$requirements" || install_packages "$requirements" 9<"$requirements"
}

install_packages() { # one installation at a time: the lock of the requirements ends with file descriptor 9
    "$base" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null || true # a file system without locks
    if [[ -z ${VIRTUAL_ENV:-} ]]; then
        "$python" -c '' 2>/dev/null || "$base" -m venv --clear "$here/.venv" || return
    fi
    has_packages "$python" "$1" && return # another command has installed them meanwhile
    echo "Installing the packages of ${1##*/} with $python: 1 to 10 minutes, 6 GB with CUDA builds of torch; only once"
    "$python" -m pip install --disable-pip-version-check -r "$1" && return
    echo "error: the packages of ${1##*/} could not be installed with $python" >&2
    return 1
}
