//! What the filesystem does, seen through a mount: one module per subject.
//! `docs/semantics.md` names the tests.

mod mount {
    mod harness;
    mod tree;

    mod attributes;
    mod budget;
    mod data_path;
    mod faults;
    mod forget;
    mod identity;
    mod lookup;
    mod random_trees;
    mod read_only;
    mod readdir;
    mod reading;
    mod readlink;
    mod statfs;
    mod unmounting;
    mod unprivileged;
    mod xattr;
}
