#!/bin/bash
# A module for dracut: the store is mounted in the initrd, as /etc/tvix-store-mount/initrd.toml says,
# whose paths begin with /sysroot. See docs/nixos.md, "Without NixOS".

check() {
    require_binaries store-mountd || return 1
    # Unless it is asked for by name.
    [[ -f "${dracutsysrootdir-}/etc/tvix-store-mount/initrd.toml" ]] || return 255
}

depends() {
    echo systemd
}

installkernel() {
    hostonly='' instmods fuse overlay
}

install() {
    local unit
    inst_multiple store-mountd
    inst_simple /etc/tvix-store-mount/initrd.toml /etc/tvix-store-mount/config.toml
    for unit in tvix-store-mount.service tvix-store-mount-check.service; do
        inst_multiple -o "$systemdsystemunitdir/$unit" "$systemdsystemconfdir/$unit"
        $SYSTEMCTL -q --root "$initdir" add-requires initrd-fs.target "$unit"
    done
    inst_simple "$moddir/initrd.conf" "$systemdsystemconfdir/tvix-store-mount.service.d/initrd.conf"
}
