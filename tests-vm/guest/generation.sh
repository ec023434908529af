# The life of a generation. Each stage is a boot of the same disk: A from ext4, A from the mount with
# a switch to B, B, A while B is collected, A after that, and A from ext4 again.
. /vm/lib.sh
a=$(cat /vm/system)
b=$(cat /vm/b 2>/dev/null)
stage=$(sed 's/.*vm\.stage=\([a-z]*\).*/\1/' /proc/cmdline)
mountd=/opt/store-mountd
profile=/nix/var/nix/profiles/system
lower=/run/tvix-store-mount/lower
# Programs under emulation are slow; nothing here is about speed.
patience=120

fails() { ! "$@"; }
install() { sh /vm/generation-install.sh $profile; }
entry_is() { equals "$(cat /boot/entry)" "$1/init"; }
marker() { cat /run/current-system/etc/generation; }

# comes_up TYPE: from a /nix/store of that type, and all of it.
comes_up() {
    eventually "$stage: multi-user is reached" 300 multi_user
    check "$stage: no unit failed" no_failed_unit
    check "$stage: /nix/store is of type $1" equals "$(findmnt -n -f -o FSTYPE --target /nix/store)" "$1"
    check "$stage: PID 1 is in /nix/store" contains "$(readlink /proc/1/exe)" '^/nix/store/.*/lib/systemd/systemd$'
}
is_system() { equals "$(readlink -f /run/current-system) $(readlink /usr)" "$1 $1/usr"; }

register() { $mountd registration | nix-store --load-db; }
comes_up_on_the_mount() { # SYSTEM
    comes_up overlay
    check "$stage: its lower layer is of type fuse" is_a_fuse $lower
    check "$stage: the store's unit is active" equals "$(property ActiveState)" active
    check "$stage: the system is the boot entry's" is_system "$1"
    check "$stage: Nix takes the registration" register
}

incomplete() { # it is not installed, and the reason names what is missing
    if said=$(install 2>&1); then
        return 1
    fi
    contains "$said" "${missing##*/}"
}
enable() {
    nix-store --load-db </vm/registration
    nix-env --profile $profile --set "$a"
    ln -s /run/booted-system /run/current-system /nix/var/nix/gcroots/

    entry=$(cat /boot/entry)
    missing=$(readlink -f "$a/etc")
    mv "$missing" /nix/hidden
    check "an incomplete closure is not installed" incomplete
    check "the boot entry is as it was" equals "$(cat /boot/entry)" "$entry"
    mv /nix/hidden "$missing"
    check "A is installed" install
    check "the store has the closure of A" $mountd registration --closure "$a"
    check "the boot entry is A" entry_is "$a"
}

# Reads all programs again and again, past the kernel's caches, and ends if one is not what it was.
load() {
    while sha256sum --quiet -c /run/programs; do
        echo 3 >/proc/sys/vm/drop_caches
        echo >>/run/rounds
    done
}
rounds() { wc -l </run/rounds; }
goes_on() { [ "$(rounds)" -ge "$(($1 + 2))" ]; } # two more rounds than COUNT
is_another_worker() { new=$(worker) && [ "$new" != "$1" ]; }

switch() {
    check "B is built" nix-build --no-out-link /vm/generation.nix --argstr base "$a"
    b=$(nix-build --no-out-link /vm/generation.nix --argstr base "$a")
    echo "$b" >/vm/b
    check "B has no reference to A" fails contains "$(nix-store --query --requisites "$b")" "^$a$"

    : >/run/rounds
    find -L /usr/bin/ -type f -exec sha256sum {} + >/run/programs
    load &
    load=$!
    eventually "the load reads" $patience goes_on 0

    check "B is set" nix-env --profile $profile --set "$b"
    check "B is installed" install
    check "the boot entry is B" entry_is "$b"
    check "the mount has B" test -e "$lower/${b##*/}/ballast"
    cp $mountd $mountd.next
    old=$(worker)
    mount=$(mount_id $lower)
    check "the daemon is upgraded" $mountd.next upgrade --binary $mountd.next $lower
    mv -T $mountd.next $mountd
    check "another worker serves" is_another_worker "$old"
    check "the switch to B" sh /vm/generation-activate.sh / "$b"
    check "B runs" is_system "$b"
    check "the mark is B's" equals "$(marker)" b
    # Only rounds in which nothing failed are counted.
    eventually "the load goes on, and nothing failed" $patience goes_on "$(rounds)"
    check "the mount is the same" equals "$(mount_id $lower)" "$mount"
    check "no unit failed by the switch" no_failed_unit
    kill $load
}

roll_back() {
    check "the mark is B's after the boot" equals "$(marker)" b
    check "the ballast is whole" equals "$(sha256sum <"$b/ballast")" "$(seq 3000000 | sha256sum)"
    check "the roll-back" nix-env --profile $profile --rollback
    check "A is installed again" install
    check "the boot entry is A again" entry_is "$a"
}

used() { du -s -B1 /var/lib/tvix-store-mount | cut -f 1; }
# As nixos/module/gc.nix does: what Nix takes for valid stays.
collect_store() {
    cd /run || return
    $mountd ls | sed 's|^|/nix/store/|' | sort >all
    xargs -r nix-store --check-validity --print-invalid <all | sort >unknown
    comm -23 all unknown >known
    $mountd gc --keep-closure-of known --roots /nix/var/nix/gcroots --roots /nix/var/nix/profiles
}
sound() { nix-store --verify-path $(nix-store --query --requisites "$a"); }

collect() {
    check "A has no mark" test ! -e /run/current-system/etc/generation
    before=$(used)
    check "B is no generation any more" nix-env --profile $profile --delete-generations old
    check "Nix collects" nix-store --gc
    check "B is not in Nix's store" test ! -e "$b"
    check "the mount still has B" test -e "$lower/${b##*/}"
    check "the store is collected" collect_store
    freed=$((before - $(used)))
    note "$freed bytes are freed"
    check "the space of B is freed" test $freed -gt 15000000
    check "B is not in the store" fails $mountd info "$b"
    check "B is not in the mount" test ! -e "$lower/${b##*/}"
    check "the store is sound" $mountd verify
    check "Nix finds A sound" sound
    check "A can be installed" install
}

case $stage in
enable)
    comes_up ext4
    enable
    ;;
switch)
    comes_up_on_the_mount "$a"
    switch
    ;;
next)
    comes_up_on_the_mount "$b"
    roll_back
    ;;
collect)
    comes_up_on_the_mount "$a"
    collect
    ;;
kept)
    comes_up_on_the_mount "$a"
    check "B is still gone" test ! -e "$b"
    ;;
off)
    comes_up ext4
    check "A runs from the disk" is_system "$a"
    check "nothing is mounted" fails is_a_fuse $lower
    check "the store's unit was not started" equals "$(property ActiveState)" inactive
    ;;
esac
finish
