# Sourced by scripts/demo and scripts/test: `bootstrap LOCK` leaves the packages of LOCK in .venv. POSIX sh.

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3.14 python3 python; do
        # A version manager may list a Python that does not run here: trying is knowing.
        if "$candidate" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 14)))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

bootstrap() {
    python=$(find_python) || {
        echo "Python 3.11, 3.12, 3.13 or 3.14 is needed and was not found." >&2
        echo "Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13; or set PYTHON to its path." >&2
        exit 3
    }
    # Isolated: neither the caller's PYTHONPATH nor the current folder may stand in for the standard library.
    "$python" -I "$root/scripts/environment.py" "$1" || exit $?
}
