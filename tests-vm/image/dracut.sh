# dracut.sh DEBIAN FILES OUT: an initramfs by dracut, in the Debian system DEBIAN with FILES laid over.
#
# To be called in a mount namespace of its own.
set -eu
debian=$(readlink -f "$1")
files=$(readlink -f "$2")
out=$3
work=$out.d
mkdir "$work"
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$debian,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
cp -r "$files/." "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
kernel=$(cd "$root" && echo usr/lib/modules/*)
# Uncompressed, since more is appended. Of other machines it knows nothing here.
chroot "$root" dracut --quiet --force --no-hostonly --no-early-microcode --no-compress \
    --kver "${kernel##*/}" /boot/initrd
cp "$root/boot/initrd" "$out"
umount -R "$work"
rmdir "$work"
