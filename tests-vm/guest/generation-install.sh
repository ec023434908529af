# generation-install.sh SYSTEM: makes it the one that boots, as nixos/module/generations.nix does:
# not before the store has it, whole.
set -e
generation=$(realpath "$1")
roots=$generation
# What else Nix keeps would not be seen after a reboot.
if [ "$(findmnt -n -f -o FSTYPE --mountpoint /nix/store)" != overlay ]; then
    roots="$roots $(nix-store --gc --print-roots | sed -n 's|^[^{].* -> \(/nix/store/.*\)$|\1|p')"
fi
/opt/store-mountd import --closure --repair $roots >/dev/null
/opt/store-mountd registration --closure "$generation" >/dev/null
echo "$generation/init" >/boot/entry.new
mv /boot/entry.new /boot/entry
