# What cargo needs: nothing else makes the program be built again.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../Cargo.lock
    ../Cargo.toml
    ../crates
    ../systemd
    ../tests-system
    ../xtask
  ];
}
