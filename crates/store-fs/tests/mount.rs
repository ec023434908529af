//! What the filesystem does, seen through a mount: one module per subject.
//! `docs/semantics.md` names the tests.

mod mount {
    mod harness;
    mod overlay;
    mod served;
    mod tree;

    mod attributes;
    mod blocked;
    mod budget;
    mod data_path;
    mod faults;
    mod forget;
    mod identity;
    mod interrupt;
    mod lookup;
    mod random_trees;
    mod read_only;
    mod readdir;
    mod reading;
    mod readlink;
    mod removal;
    mod resume;
    mod statfs;
    mod unmounting;
    mod unprivileged;
    mod xattr;
}
