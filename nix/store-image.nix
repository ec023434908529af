# A store that has closures, made by the program itself: a directory, or an image of a disk.
{
  lib,
  runCommand,
  closureInfo,
  e2fsprogs,
  erofs-utils,
  fakeroot,
  mountd,
}:
{
  # Store paths; what they refer to comes with them. For a machine, its system.build.toplevel.
  contents,
  name ? "tvix-store",
  # directory; erofs, read-only; or ext4, into which a machine can import more.
  format ? "directory",
  label ? "tvix-store",
  # Free space of an ext4 image, in MiB.
  freeSpace ? 512,
}:
assert lib.assertOneOf "format" format [
  "directory"
  "erofs"
  "ext4"
];
runCommand name
  {
    nativeBuildInputs = [
      mountd
    ]
    ++ lib.optional (format == "erofs") erofs-utils
    ++ lib.optionals (format == "ext4") [
      e2fsprogs
      fakeroot
    ];
    registration = "${closureInfo { rootPaths = contents; }}/registration";
    passthru = { inherit label; };
  }
  (
    ''
      store-mountd --store store import --registration "$registration" > paths
      store-mountd --store store verify
      echo "$(wc -l < paths) paths"
    ''
    + {
      directory = ''
        mv store "$out"
      '';
      erofs = ''
        mkfs.erofs --all-root -L ${label} "$out" store
      '';
      ext4 = ''
        used=$(du --summarize --block-size=1M store | cut -f1)
        truncate --size=$((used + used / 16 + ${toString freeSpace}))M "$out"
        fakeroot sh -c 'chown -R 0:0 store && mkfs.ext4 -q -L ${label} -d store "$0"' "$out"
      '';
    }
    .${format}
  )
