#!/bin/sh
# Installs petaseal from this folder, without a network, into a virtual environment of its own.
set -eu

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
site=yes
environment=
while [ $# -gt 0 ]; do
    case $1 in
        --python | --venv)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help" 2
            if [ "$1" = --python ]; then python=$2; else environment=$2; fi
            shift
            ;;
        --isolated) site=no ;;
        -h | --help)
            cat <<'TEXT'
Usage: ./install.sh [--python PYTHON] [--venv DIR] [--isolated]

  --python PYTHON  the Python to use, the one that has the vendor's torch (default: $PYTHON, else python3)
  --venv DIR       the virtual environment to make (default: venv-MACHINE beside this script)
  --isolated       do not let it see that Python's own packages, such as the vendor's torch
TEXT
            exit 0
            ;;
        *) fail "there is no option $1; see --help" 2 ;;
    esac
    shift
done
case $environment in
    '' | /*) ;;
    *) environment=$(pwd)/$environment ;;
esac
case $python in
    /*) ;;
    */*) python=$(pwd)/$python ;;
esac
cd "$here"

listed=$(sed -n 's|^[0-9a-f]*  wheels/||p' SHA256SUMS | LC_ALL=C sort)
[ "$listed" = "$(cd wheels && LC_ALL=C ls)" ] || fail "wheels/ does not hold what SHA256SUMS lists; unpack the bundle again"
changed=$(LC_ALL=C sha256sum -c SHA256SUMS 2>&1 | sed '/: OK$/d')
[ -z "$changed" ] || fail "the bundle was changed or damaged; unpack it again: $(printf %s "$changed" | tr '\n' ';')"

told=$("$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())') ||
    fail "cannot run $python; name another Python with --python"
pip=
have=
while read -r version machine wheel; do
    have="$have${have:+, }Python $version on $machine"
    if [ "$version $machine" = "$told" ]; then pip=$wheel; fi
done <targets.txt
[ -n "$pip" ] || fail "this bundle is for $have, and $python is Python ${told% *} on ${told#* }; name another with --python"

environment=${environment:-$here/venv-${told#* }}
[ ! -e "$environment" ] || fail "$environment exists; remove it to install anew, or choose another with --venv"
trap 'rm -rf -- "$environment"' EXIT
trap 'exit 130' HUP INT TERM

if [ "$site" = yes ]; then options=--system-site-packages; else options=; fi
# shellcheck disable=SC2086 # none or one option
"$python" -m venv --without-pip $options "$environment" || fail "could not make the virtual environment $environment"
cp constraints.txt "$environment/constraints.txt"
if [ "$site" = yes ]; then
    # torch was built against the vendor's numpy: one that is recent enough is kept
    sed '/^numpy==/d' constraints.txt >"$environment/constraints.txt"
    # of a Python that is a virtual environment itself, venv passes on what lies below it, and not its own packages
    packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -c 'import site, sys; sys.prefix == sys.base_prefix or print("\n".join(site.getsitepackages()))' \
        >"$packages/vendor.pth"
fi

pip_install() {
    PYTHONPATH=$here/$pip PIP_CONFIG_FILE=/dev/null "$environment/bin/python" -m pip --isolated install --quiet \
        --disable-pip-version-check --no-cache-dir --no-index --find-links wheels "$@" ||
        fail "pip could not install it; nothing was left behind"
}
pip_install --no-deps --ignore-installed wheels/petaseal-*.whl
pip_install --constraint "$environment/constraints.txt" --requirement requirements.txt
told=$("$environment/bin/petaseal" --version) || fail "petaseal does not start; nothing was left behind"
trap - EXIT

echo "$told is installed in $environment"
if torch=$("$environment/bin/python" -c 'import importlib.util as u; print(u.find_spec("torch").origin)' 2>/dev/null); then
    echo "torch: $torch"
else
    echo "torch: none; accelerators need the vendor's own: install again with --python and the Python that has it"
fi
echo "Next: $environment/bin/petaseal devices"
