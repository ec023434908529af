# initrd.sh ROOT OUT: an initramfs with systemd, of files in the Debian system ROOT.
#
# It mounts root= from the command line and switches to it. A test adds its own units.
set -eu
root=$(readlink -f "$1")
out=$2
dir=$out.d
systemd=usr/lib/systemd
mkdir -p "$dir/dev" "$dir/proc" "$dir/sys" "$dir/run" "$dir/sysroot" "$dir/tmp" "$dir/var" "$dir/root"
for link in bin sbin lib lib64; do
    mkdir -p "$dir/usr/$link"
    ln -s "usr/$link" "$dir/$link"
done

take() { # files of the root, with their directories
    (cd "$root" && tar -c "$@") | tar -x -C "$dir"
}
programs="usr/bin/bash usr/bin/dash usr/bin/sh usr/bin/systemctl usr/bin/journalctl usr/bin/udevadm
    usr/bin/systemd-tmpfiles usr/bin/mount usr/bin/umount usr/bin/findmnt usr/bin/kmod
    usr/bin/cat usr/bin/cp usr/bin/ls usr/bin/mkdir usr/bin/ln usr/bin/rm usr/bin/sleep usr/bin/test
    usr/bin/grep usr/bin/pgrep usr/bin/kill usr/bin/env usr/bin/head usr/bin/tail usr/bin/sed usr/bin/tr
    usr/sbin/sulogin usr/sbin/modprobe usr/sbin/e2fsck usr/sbin/fsck usr/sbin/fsck.ext4
    usr/sbin/blkid
    $systemd/systemd $systemd/systemd-executor $systemd/systemd-journald $systemd/systemd-udevd
    $systemd/systemd-shutdown $systemd/systemd-fsck $systemd/systemd-modules-load
    $systemd/systemd-sulogin-shell $systemd/systemd-sysroot-fstab-check
    $systemd/system-generators/systemd-fstab-generator
    $systemd/system-generators/systemd-debug-generator"
take $programs
# Their libraries, those that systemd loads when it wants them included.
for program in $programs; do
    if [ -L "$root/$program" ]; then
        continue
    fi
    chroot "$root" ldd "/$program" 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*' || true
done | sort -u >"$out.libraries"
for library in libkmod.so.2 libmount.so.1 libblkid.so.1 libseccomp.so.2 libcrypt.so.1 libacl.so.1 \
    libapparmor.so.1 libaudit.so.1 libgcc_s.so.1 libcap.so.2 libselinux.so.1 libpam.so.0 libcrypto.so.3 \
    libzstd.so.1 liblzma.so.5 libz.so.1; do
    echo "/usr/lib/x86_64-linux-gnu/$library"
done >>"$out.libraries"
sort -u "$out.libraries" | while read -r library; do
    [ -e "$root$library" ] || continue
    mkdir -p "$dir$(dirname "$library")"
    cp -L "$root$library" "$dir$library"
done
rm "$out.libraries"

units="initrd.target initrd-fs.target initrd-root-device.target initrd-root-fs.target
    initrd-usr-fs.target initrd-switch-root.target initrd-switch-root.service
    initrd-parse-etc.service initrd-cleanup.service initrd-udevadm-cleanup-db.service
    basic.target sysinit.target local-fs.target local-fs-pre.target paths.target slices.target
    sockets.target swap.target timers.target shutdown.target umount.target final.target
    poweroff.target reboot.target systemd-poweroff.service systemd-reboot.service
    emergency.target emergency.service rescue.target rescue.service
    systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket
    systemd-udev-trigger.service systemd-fsck@.service systemd-fsck-root.service modprobe@.service
    sockets.target.wants/systemd-journald.socket sockets.target.wants/systemd-journald-dev-log.socket
    sockets.target.wants/systemd-udevd-control.socket sockets.target.wants/systemd-udevd-kernel.socket
    sysinit.target.wants/systemd-journald.service sysinit.target.wants/systemd-udevd.service
    sysinit.target.wants/systemd-udev-trigger.service"
for unit in $units; do
    take "$systemd/system/$unit"
done
for rules in 50-udev-default 60-persistent-storage 80-drivers 99-systemd; do
    take "usr/lib/udev/rules.d/$rules.rules"
done

modules=$(cd "$root" && echo usr/lib/modules/*)
for module in virtio_blk overlay autofs4 virtio-rng; do
    file=$(cd "$root" && find "$modules" -name "$module.ko*" | head -n 1)
    if [ -n "$file" ]; then
        mkdir -p "$dir/$(dirname "$file")"
        xz -dc "$root/$file" >"$dir/${file%.xz}"
    fi
done
take "$modules/modules.builtin" "$modules/modules.builtin.modinfo" "$modules/modules.order"
# By the Debian system's own program: this machine may have none.
mount --bind "$dir" "$root/mnt"
chroot "$root" depmod --basedir /mnt "${modules##*/}"
umount "$root/mnt"

mkdir -p "$dir/etc"
echo 'ID=store-vm-initrd' >"$dir/etc/initrd-release"
ln -s initrd-release "$dir/etc/os-release"
echo 'root::0:0:root:/root:/bin/bash' >"$dir/etc/passwd"
# Those that udev's rules name.
for group in root:0 tty:5 disk:6 lp:7 kmem:15 dialout:20 cdrom:24 tape:26 audio:29 video:44 sgx:103 \
    kvm:104 render:105 input:106 clock:107; do
    echo "${group%:*}:x:${group#*:}:"
done >"$dir/etc/group"
printf 'root::20000:0:99999:7:::\n' >"$dir/etc/shadow"
printf 'passwd: files\ngroup: files\nshadow: files\n' >"$dir/etc/nsswitch.conf"
echo vm >"$dir/etc/hostname"
: >"$dir/etc/fstab"
ln -s /usr/lib/systemd/system/initrd.target "$dir/usr/lib/systemd/system/default.target"
ln -s usr/lib/systemd/systemd "$dir/init"

(cd "$dir" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$out"
rm -rf "$dir"
