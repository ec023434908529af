# Imports the closure of the installed Nix, mounts it, and stays until Ctrl-C. As any user who may
# mount with fusermount3, or as root.
work=$(mktemp -d --tmpdir store-mountd-demo.XXXXXX)
trap 'rmdir "$work/mount" 2> /dev/null; rm -rf "$work/store"; rmdir "$work"' EXIT
mkdir "$work/mount"

store-mountd --store "$work/store" import --closure "$(command -v nix-store)" > /dev/null
echo "In another terminal: ls -l $work/mount" >&2
store-mountd --store "$work/store" mount --list-root "$work/mount"
