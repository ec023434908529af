use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Tree {
    File(bool, Vec<u8>),
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    fn write(&self, writer: &mut NarWriter<Vec<u8>>) -> Result<(), writer::Error> {
        match self {
            Self::File(executable, contents) => {
                writer.file(*executable, contents.len() as u64, &mut contents.as_slice())
            }
            Self::Symlink(target) => writer.symlink(target),
            Self::Directory(entries) => {
                writer.enter_directory()?;
                for (name, node) in entries {
                    writer.entry(name)?;
                    node.write(writer)?;
                }
                writer.leave_directory()
            }
        }
    }

    fn nar(&self) -> Vec<u8> {
        let mut writer = NarWriter::new(Vec::new());
        self.write(&mut writer).unwrap();
        writer.finish().unwrap()
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let bytes = |max| proptest::collection::vec(1..=255u8, 1..max);
    let name = bytes(12).prop_filter("valid name", |name| check_name(name).is_ok());
    let leaf = prop_oneof![
        (any::<bool>(), any::<Vec<u8>>()).prop_map(|(x, contents)| Tree::File(x, contents)),
        bytes(20).prop_map(Tree::Symlink),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        proptest::collection::btree_map(name.clone(), inner, 0..5).prop_map(Tree::Directory)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(tree in any_tree()) {
        let nar = tree.nar();
        prop_assert_eq!(check(&nar).unwrap(), nar.len() as u64);
        prop_assert_eq!(events(&nar).unwrap().1, nar);
    }

    /// A tree has one NAR: what is accepted after a mutation is still reproduced byte by byte.
    #[test]
    fn mutations_are_refused_or_reproduced(
        tree in any_tree(),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut nar = tree.nar();
        for (index, value) in mutations {
            let index = index.index(nar.len());
            nar[index] = value;
        }
        if let Some(cut) = cut {
            nar.truncate(cut.index(nar.len()));
        }
        if check(&nar).is_ok() {
            prop_assert_eq!(events(&nar).unwrap().1, nar);
        } else {
            let _ = events(&nar);
        }
    }

    #[test]
    fn noise_never_panics(noise: Vec<u8>) {
        let _ = check(&noise);
        let _ = check(&[words("MAGIC ( type directory entry ( name"), noise].concat());
    }
}
