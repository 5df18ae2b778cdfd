#!/usr/bin/env bash
# Every install step of the images: the Dockerfile only copies files and runs this, as root.
#
#   install.sh runtime        Python, the user it runs as, and the directories it uses
#   install.sh build SOURCE   the program from SOURCE, in an environment of its own without pip
#   install.sh node           npm and npx for the Node that was copied in
set -euo pipefail

readonly PREFIX=/opt/mcp-tool-gateway
readonly OWNER=10001 # fixed, so that the owner of a mounted directory can be set on the host

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -qy --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
}

runtime() {
    install_packages ca-certificates python3
    groupadd --gid "$OWNER" gateway
    useradd --uid "$OWNER" --gid "$OWNER" --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin gateway
    # A new volume takes its owner and mode from the directory that it is mounted on.
    install -d -m 0700 -o "$OWNER" -g "$OWNER" /var/lib/mcp-tool-gateway /var/cache/npm
    install -d -m 0755 /etc/mcp-tool-gateway
    ln -s "$PREFIX/bin/gateway" /usr/local/bin/gateway
}

# Only wheels, only the bytes that the lock files name: nothing is compiled and no script is run.
pip_install() {
    "$work/tools/bin/pip" --python "$1/bin/python" --disable-pip-version-check --no-cache-dir \
        --quiet install --root-user-action=ignore --only-binary=:all: "${@:2}"
}

build() {
    local source=$1
    install_packages python3-venv
    work=$(mktemp -d)
    python3 -m venv "$work/tools"
    python3 -m venv --without-pip "$PREFIX"
    pip_install "$work/tools" --require-hashes -r "$source/docker/build.lock"
    (cd "$source" && "$work/tools/bin/hatchling" build -t wheel -d "$work/wheel")
    pip_install "$PREFIX" --require-hashes -r "$source/docker/requirements.lock"
    pip_install "$PREFIX" --no-deps --no-index "$work"/wheel/*.whl
    rm -rf "$work"
    "$PREFIX/bin/gateway" --version
}

node() {
    ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
    ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
    # In npm's own file, because upstreams do not get the gateway's environment.
    install -d /usr/local/etc
    printf '%s\n' cache=/var/cache/npm update-notifier=false fund=false audit=false \
        >/usr/local/etc/npmrc
    /usr/local/bin/npm --version >/dev/null
}

case ${1-} in
    runtime | build | node) "$@" ;;
    *)
        echo 'install.sh: say what to install: runtime, build SOURCE or node' >&2
        exit 2
        ;;
esac
