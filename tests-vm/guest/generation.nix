# A system of the same parts as `base`, with something that only it has.
{ base }:
let
  parts = builtins.storePath base;
in
derivation {
  name = "system-b";
  system = builtins.currentSystem;
  builder = "${parts}/usr/bin/sh";
  PATH = "${parts}/usr/bin";
  inherit parts;
  # The links lead to the parts, so there is no reference to `base` itself.
  args = [
    "-ec"
    ''
      mkdir -p $out/etc
      cp -P $parts/init $parts/usr $out/
      echo b >$out/etc/generation
      seq 3000000 >$out/ballast
    ''
  ];
}
