# Runs in a mount namespace of its own, with $MOUNTD the program and $WORK an
# empty directory. Ends with status 0 and "done" if all holds.
set -eu
fail() {
    echo "FAIL: $*"
    exit 1
}
# A Nix that builds as root, alone, from nothing.
export NIX_CONFIG="build-users-group =
sandbox = false
substituters ="
export HOME="$WORK" NIX_REMOTE=local
mount -t tmpfs tmpfs /nix

mkdir "$WORK/tree"
echo text >"$WORK/tree/file"
printf '#!/bin/sh\n' >"$WORK/tree/script"
chmod 755 "$WORK/tree/script"
ln -s ../elsewhere "$WORK/tree/link"
cat >"$WORK/closure.nix" <<'EOF'
let
  make = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
    PATH = "/bin:/usr/bin";
  };
  dependency = make "dependency" "mkdir -p $out/bin; echo hi > $out/bin/x; chmod +x $out/bin/x";
in
make "top-1.0" "echo ${dependency} > $out; echo $out >> $out"
EOF
added=$(nix-store --add "$WORK/tree")
top=$(nix-build --no-out-link "$WORK/closure.nix")

# The store path of a tree is the one that Nix gives it.
imported=$("$MOUNTD" --store "$WORK/store" import "$WORK/tree")
[ "$imported" = "$added" ] || fail "import says $imported, nix-store --add $added"

# A closure comes over with its metadata: Nix's own dump is ours, but for order.
"$MOUNTD" --store "$WORK/store" import --closure "$top" >"$WORK/imported"
nix-store --query --requisites "$top" | sort >"$WORK/requisites"
sort "$WORK/imported" | cmp - "$WORK/requisites" || fail "the closure differs"
for path in $added $(cat "$WORK/requisites"); do
    nix-store --dump-db "$path" >"$WORK/nix"
    "$MOUNTD" --store "$WORK/store" registration "$path" >"$WORK/ours"
    cmp "$WORK/nix" "$WORK/ours" || fail "the registration of $path differs"
done

# NAR and directory exports are what Nix has.
for path in $added $(cat "$WORK/requisites"); do
    nix-store --dump "$path" >"$WORK/nix.nar"
    "$MOUNTD" --store "$WORK/store" export "$path" --nar >"$WORK/our.nar"
    cmp "$WORK/nix.nar" "$WORK/our.nar" || fail "the NAR of $path differs"
done

# A Nix with an empty database and nothing of its own on disk takes over the
# mounted store: Nix writes into its store, so an overlay goes on top.
mkdir "$WORK/mount"
"$MOUNTD" --store "$WORK/store" mount --list-root "$WORK/mount" 2>"$WORK/log" </dev/null >&2 &
mountd=$!
trap 'umount /nix/store 2>/dev/null; kill -INT $mountd; wait $mountd' EXIT
tries=0
until grep -q '^mounted ' "$WORK/log"; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "not mounted: $(cat "$WORK/log")"
    sleep 0.1
done
umount /nix
mount -t tmpfs tmpfs /nix
mkdir -p /nix/store /nix/upper /nix/work
mount -t overlay overlay -o "lowerdir=$WORK/mount,upperdir=/nix/upper,workdir=/nix/work" /nix/store
"$MOUNTD" --store "$WORK/store" registration | nix-store --load-db
nix-store --verify --check-contents 2>"$WORK/verify" || fail "nix-store --verify: $(cat "$WORK/verify")"
nix-store --query --requisites "$top" | sort | cmp - "$WORK/requisites" || fail "Nix sees another closure"
[ "$(cat "$top")" = "$(printf '%s\n%s' "$(grep dependency "$WORK/requisites")" "$top")" ] || fail "$top reads wrong"

# And builds on top of it.
cat >"$WORK/more.nix" <<EOF
derivation {
  name = "more";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "read line < \${builtins.storePath "$top"}; echo built on \$line > \$out" ];
}
EOF
more=$(nix-build --no-out-link "$WORK/more.nix")
grep -q "built on /nix/store/.*-dependency" "$more" || fail "$more reads wrong: $(cat "$more")"
echo "done"
