# build.sh OUT: makes the Debian system of the tests.
#
#   OUT/root        the system, unpacked
#   OUT/debs        the packages that it was installed from
#   OUT/kernel      its kernel
#   OUT/initrd      mounts /dev/vda, copies /overlay of the initramfs over it, and starts it
#   OUT/debian.img  the system as an ext4 file system
#
# The mirror is the one that mmdebstrap takes on this machine.
set -eu
here=$(dirname "$(readlink -f "$0")")
out=$1
root=$out/root

packages=$(sed 's/#.*//' "$here/packages" | tr -s ' \n' ',,')
# No initramfs is made of it: the tests have their own.
INITRD=No mmdebstrap --quiet --mode=root --variant=apt --include="${packages#,}" \
    --skip=essential/unlink --skip=cleanup/apt/cache \
    --aptopt='APT::Keep-Downloaded-Packages "true"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='force-unsafe-io' \
    trixie "$root"

mkdir "$out/debs"
mv "$root"/var/cache/apt/archives/*.deb "$out/debs/"
rm -rf "$root"/var/cache/apt/*.bin "$root"/boot/initrd*
cp "$root"/boot/vmlinuz-* "$out/kernel"

# The system is started often and stopped hard: nothing that waits, asks or only takes time.
echo vm >"$root/etc/hostname"
# Not the first start of a new machine, which takes its time.
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
: >"$root/etc/fstab"
chroot "$root" systemctl --quiet set-default multi-user.target
for unit in getty@.service serial-getty@.service systemd-logind.service systemd-timesyncd.service \
    systemd-networkd.service systemd-networkd.socket apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-firstboot.service \
    ldconfig.service systemd-pcrphase.service systemd-tpm2-setup.service \
    systemd-tpm2-setup-early.service systemd-binfmt.service systemd-hwdb-update.service \
    systemd-journal-catalog-update.service systemd-update-done.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

initrd=$out/initrd.d
mkdir -p "$initrd/bin" "$initrd/lib" "$initrd/dev" "$initrd/proc" "$initrd/sys" "$initrd/run" \
    "$initrd/sysroot"
cp "$root/usr/bin/busybox" "$initrd/bin/"
xz -dc "$root"/usr/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz >"$initrd/lib/virtio_blk.ko"
cp "$here/init" "$initrd/init"
chmod 755 "$initrd/init"
(cd "$initrd" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$out/initrd"
rm -rf "$initrd"

size=$(du -sm --exclude=./usr/lib/modules "$root" | cut -f 1)
mke2fs -q -t ext4 -L root -d "$root" "$out/debian.img" "$((size + 512))M"
