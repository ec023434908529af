# The system booted from an overlay over the mount: does Nix work on it?
. /vm/lib.sh
lower=/run/tvix-store-mount/lower
system=$(cat /vm/system)
mountd=/opt/store-mountd

eventually "multi-user is reached" 300 multi_user
check "/nix/store is an overlay" equals "$(findmnt -n -o FSTYPE --mountpoint /nix/store)" overlay
check "its lower layer is of type fuse" is_a_fuse $lower
check "PID 1 is in /nix/store" contains "$(readlink /proc/1/exe)" '^/nix/store/.*/lib/systemd/systemd$'
check "no unit failed" no_failed_unit

register() { $mountd registration | nix-store --load-db; }
check "Nix takes the registration" register
requisites() { equals "$(nix-store --query --requisites "$system" | wc -l)" "$(cat /vm/path-count)"; }
check "Nix knows the closure" requisites
path_info() { equals "$(nix path-info -r "$system" | wc -l)" "$(cat /vm/path-count)"; }
check "nix path-info -r has the closure" path_info
check "nix-store --verify --check-contents" nix-store --verify --check-contents

# A derivation whose output refers to a path of the lower layer.
build() {
    nix-build --no-out-link --expr "derivation {
        name = \"built-on-top\";
        system = builtins.currentSystem;
        builder = builtins.storePath \"$(readlink -f /bin/sh)\";
        args = [ \"-c\" \"echo \$0 is built >\$out\" \"$(readlink -f /bin/sh)\" ];
    }"
}
check "nix-build builds" build
built=$(build)
check "what was built can be read" contains "$(cat "$built")" 'is built$'
check "what was built is not in the lower layer" test ! -e "$lower/${built##*/}"
check "what was built refers to its shell" contains "$(nix-store --query --references "$built")" dash
check "nix-store --delete takes it away" nix-store --delete "$built"
check "it is gone" test ! -e "$built"

# Not in the lower layer when the overlay was made, and never looked for.
import() { path=$($mountd import /vm/lib.sh) && equals "$(cat "$path")" "$(cat /vm/lib.sh)"; }
check "what is imported appears" import
check "the system's path is still valid" nix-store --check-validity "$system"
finish
