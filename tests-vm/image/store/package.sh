# Makes a store path of Debian packages: what they have in /usr, with the programs' interpreter and
# library paths, and the paths in scripts and units, turned to store paths.
set -eu
mkdir tree
for deb in $debs; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C tree --no-same-owner \
        --exclude='./usr/share/doc*' --exclude='./usr/share/man*' --exclude='./usr/share/info*' \
        --exclude='./usr/share/locale*' --exclude='./usr/share/lintian*' \
        --exclude='./usr/share/bug*' --exclude='./usr/share/bash-completion*' \
        --exclude='./usr/share/zsh*' --exclude='./usr/share/i18n*' \
        --exclude='./usr/lib/x86_64-linux-gnu/gconv*' --exclude='./usr/lib/modules*' \
        --exclude='./usr/lib/udev/hwdb.d*'
done
mkdir "$out"
if [ -d tree/usr ]; then
    cp -a tree/usr/. "$out/"
fi
for dir in etc lib sbin bin; do
    if [ -d "tree/$dir" ]; then
        mkdir -p "$out/$dir"
        cp -a "tree/$dir/." "$out/$dir/"
    fi
done
chmod -R u+w,a-st "$out"

multiarch=lib/x86_64-linux-gnu
rpath=$out/$multiarch
if [ -d "$out/$multiarch/systemd" ]; then
    rpath=$rpath:$out/$multiarch/systemd
fi
for dependency in $deps; do
    if [ -n "$(find "$dependency/$multiarch" -maxdepth 1 -name '*.so*' 2>/dev/null | head -n 1)" ]; then
        rpath=$rpath:$dependency/$multiarch
    fi
    if [ -d "$dependency/$multiarch/systemd" ]; then
        rpath=$rpath:$dependency/$multiarch/systemd
    fi
done
interpreter=${libc:-$out}/$multiarch/ld-linux-x86-64.so.2

find "$out" -type f | while read -r file; do
    # The dynamic linker and what it may load before it has read a path stay as they are.
    case ${file##*/} in
    ld-linux* | libc.so.* | *.o | *.a | *.ko) continue ;;
    esac
    [ "$(head -c 4 "$file" | od -An -c | tr -d ' ')" = '177ELF' ] || continue
    if patchelf --print-interpreter "$file" >/dev/null 2>&1; then
        patchelf --set-interpreter "$interpreter" --set-rpath "$rpath" "$file"
    elif [ -n "$libc" ] && [ -n "$(patchelf --print-needed "$file" 2>/dev/null)" ]; then
        patchelf --set-rpath "$rpath" "$file"
    fi
done

perl "$relocate" "$out" "${shell:-}" $deps
