# build.sh OUT DEBIAN: makes a system in /nix/store, out of the image `debian`.
#
#   OUT/nix            the store, as Nix left it
#   OUT/registration   what Nix knows of the system's paths, as `nix-store --dump-db` prints it
#   OUT/paths          the system's closure
#   OUT/system         its top
#   OUT/initrd         an initramfs with systemd, whose root is /dev/disk/by-label/root
set -eu
here=$(dirname "$(readlink -f "$0")")
out=$1
debian=$2

# Nix runs in the Debian system, of which nothing is changed.
work=$out/work
mkdir "$work" "$out/nix"
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$debian/root,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
mkdir -p "$root/nix" "$root/debs" "$root/recipe" "$root/build"
mount --bind "$out/nix" "$root/nix"
mount --bind "$debian/debs" "$root/debs"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp "$here"/* "$root/recipe/"

cat >"$root/recipe/run" <<'EOF'
set -eu
export HOME=/build NIX_REMOTE=local LC_ALL=C TMPDIR=/build
export NIX_CONFIG="build-users-group =
sandbox = false
substituters =
max-jobs = 2
filter-syscalls = false"
cd /recipe
perl packages.pl /var/lib/dpkg/status /debs packages >packages.nix
system=$(nix-build --no-out-link closure.nix --arg debs /debs)
nix-store --query --requisites "$system" >/nix/paths
nix-store --dump-db $(cat /nix/paths) >/nix/registration
echo "$system" >/nix/system
EOF
chroot "$root" /bin/sh /recipe/run
mv "$out/nix/paths" "$out/nix/registration" "$out/nix/system" "$out/"
umount -R "$work"
rmdir "$work"
rm -rf "$out/nix/var"
# What it was built from is not part of it.
for path in "$out"/nix/store/* "$out"/nix/store/.links; do
    grep -q -F -x "/nix/store/${path##*/}" "$out/paths" || rm -rf "$path"
done

sh "$here/initrd.sh" "$debian/root" "$out/initrd"
