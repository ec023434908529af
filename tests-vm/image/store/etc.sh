# /etc of the running system, to be copied.
set -eu
mkdir "$out"
cd "$out"
cat >passwd <<'EOF'
root:x:0:0:root:/root:/bin/bash
messagebus:x:101:101:D-Bus:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
EOF
cat >group <<'EOF'
root:x:0:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
kmem:x:15:
dialout:x:20:
cdrom:x:24:
tape:x:26:
audio:x:29:
utmp:x:43:
video:x:44:
users:x:100:
messagebus:x:101:
systemd-journal:x:102:
sgx:x:103:
kvm:x:104:
render:x:105:
input:x:106:
clock:x:107:
nogroup:x:65534:
EOF
printf 'root::20000:0:99999:7:::\n' >shadow
chmod 600 shadow
cat >nsswitch.conf <<'EOF'
passwd: files
group: files
shadow: files
hosts: files
EOF
cat >os-release <<'EOF'
ID=store-vm
NAME="A system in /nix/store"
PRETTY_NAME="A system in /nix/store"
EOF
echo vm >hostname
echo 0123456789abcdef0123456789abcdef >machine-id
: >fstab
mkdir -p nix systemd/system
cat >nix/nix.conf <<'EOF'
build-users-group =
sandbox = false
substituters =
experimental-features = nix-command
EOF
ln -s /usr/lib/systemd/system/multi-user.target systemd/system/default.target
# What needs hardware, a network, or files that this system does not have.
for unit in getty@.service serial-getty@.service systemd-logind.service systemd-networkd.service \
    systemd-firstboot.service ldconfig.service systemd-binfmt.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service \
    systemd-update-done.service systemd-timesyncd.service systemd-sysusers.service \
    systemd-pcrphase.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service \
    console-getty.service e2scrub_reap.service e2scrub_all.timer fstrim.timer; do
    ln -s /dev/null "systemd/system/$unit"
done
