# What a boot needs to know: `init`, `usr` and `etc`.
set -eu
mkdir "$out"
ln -s "$path" "$out/usr"
ln -s "$etc" "$out/etc"
ln -s "$systemd/lib/systemd/systemd" "$out/init"
