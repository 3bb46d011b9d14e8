# Functions that the scripts share; sourced by bash.

# What the script does, for people; on stderr, so that stdout stays a script's result.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() { say "$*"; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or by sudo where that asks for nothing (or a person is there to answer).
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        die "root is needed for: $*"
    fi
}

can_be_root() { [ "$(id -u)" -eq 0 ] || { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; }

# Installs Debian or Ubuntu packages that are missing. A fresh machine has no package lists, hence the update.
apt_install() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    have apt-get || die "install with this system's package manager: ${missing[*]}"
    say "installing ${missing[*]}"
    as_root apt-get update -q >&2 || say "apt-get update failed; trying with the lists there are"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
        die "apt-get can't install ${missing[*]}"
}

# Prints the path of a Python of at least 3.11 ("find_python"), or of one version ("find_python 3.13"), also pyenv's.
find_python() {
    local wanted=${1:-} candidate root
    local candidates=()
    root=${PYENV_ROOT:-$HOME/.pyenv}
    for candidate in ${wanted:-3.13 3.12 3.11 3.14}; do
        candidates+=("python$candidate" "$root"/versions/"$candidate"*/bin/"python$candidate")
    done
    [ -n "$wanted" ] || candidates+=(python3 python)
    for candidate in "${candidates[@]}"; do
        candidate=$(command -v "$candidate" 2>/dev/null) || continue
        # Running it matters: pyenv's shims exist for versions that aren't chosen, and then fail.
        "$candidate" - "$wanted" <<'PYTHON' 2>/dev/null && return 0
import sys
wanted = sys.argv[1]
found = "{}.{}".format(*sys.version_info)
if (wanted and found != wanted) or sys.version_info < (3, 11):
    sys.exit(1)
print(sys.executable)
PYTHON
    done
    return 1
}

# The image busybox: pulled, or made of Debian's static busybox where no registry answers within ten seconds.
ensure_busybox() {
    local cli root applet
    cli=$(command -v docker || command -v podman) || die "neither docker nor podman is on PATH"
    "$cli" image inspect busybox >/dev/null 2>&1 && return 0
    say "pulling busybox"
    timeout 10 "$cli" pull -q busybox >/dev/null 2>&1 && return 0
    [ -x /bin/busybox ] || die "no registry can be reached, and there is no /bin/busybox (Debian, Ubuntu: apt-get install busybox-static)"
    say "no registry can be reached: making the image of this machine's /bin/busybox"
    root=$(mktemp -d)
    mkdir -p "$root"/{bin,etc,tmp}
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    tar -C "$root" --owner 0 --group 0 -c . | "$cli" import --change 'CMD ["sh"]' - busybox:latest >/dev/null
    rm -rf "$root"
}
