//! The core against a plain model of it: random trees, random requests, in any
//! order that a kernel could send them.

#[path = "mount/tree.rs"]
mod tree;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use store_fs::{
    Filesystem, FsError, Options,
    core::{Attr, Found, Kind, Lookup, NodeId},
};

use crate::tree::{Store, Tree, any_tree, dir};

/// A request; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Request {
    /// Look up an entry of a directory.
    Lookup {
        node: usize,
        name: usize,
    },
    /// Look up a name that is not there.
    LookupMissing {
        node: usize,
    },
    Forget {
        node: usize,
        count: u64,
    },
    Getattr {
        node: usize,
    },
    Readlink {
        node: usize,
    },
    Read {
        node: usize,
        offset: usize,
        len: usize,
    },
    /// List a directory in pieces of the given sizes, over and over.
    List {
        node: usize,
        pieces: Vec<usize>,
        plus: bool,
    },
}

fn any_request() -> impl Strategy<Value = Request> {
    let node = 0..1000_usize;
    prop_oneof![
        6 => (node.clone(), 0..100_usize).prop_map(|(node, name)| Request::Lookup { node, name }),
        1 => node.clone().prop_map(|node| Request::LookupMissing { node }),
        4 => (node.clone(), 1..4_u64).prop_map(|(node, count)| Request::Forget { node, count }),
        2 => node.clone().prop_map(|node| Request::Getattr { node }),
        2 => node.clone().prop_map(|node| Request::Readlink { node }),
        3 => (node.clone(), 0..50_000_usize, 0..50_000_usize)
            .prop_map(|(node, offset, len)| Request::Read { node, offset, len }),
        2 => (node, prop::collection::vec(0..6_usize, 1..8), any::<bool>())
            .prop_map(|(node, pieces, plus)| Request::List { node, pieces, plus }),
    ]
}

/// What makes two nodes one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Directory(Vec<Vec<u8>>),
    File(Vec<u8>, bool),
    /// By what the directory that has it looks like, and the name there; or by
    /// the name in the root.
    Symlink(String, Vec<u8>),
}

/// A node that the kernel would refer to.
#[derive(Debug)]
struct Known<'a> {
    /// One of its paths.
    path: Vec<Vec<u8>>,
    tree: &'a Tree,
    identity: Identity,
    attr: Attr,
    count: u64,
}

struct Model<'a> {
    root: &'a Tree,
    filesystem: &'a Filesystem,
    known: BTreeMap<NodeId, Known<'a>>,
    by_identity: BTreeMap<Identity, NodeId>,
    /// Inode numbers of all that was ever seen.
    inos: HashMap<u64, Identity>,
}

fn entries(tree: &Tree) -> Option<&BTreeMap<Vec<u8>, Tree>> {
    match tree {
        Tree::Directory(entries) => Some(entries),
        Tree::File(..) | Tree::Symlink(_) => None,
    }
}

fn kind(tree: &Tree) -> Kind {
    match tree {
        Tree::Directory(_) => Kind::Directory,
        Tree::File(_, executable) => Kind::File {
            executable: *executable,
        },
        Tree::Symlink(_) => Kind::Symlink,
    }
}

impl<'a> Model<'a> {
    /// The number, path and tree of a directory or other node; the root too.
    fn pick(&self, number: usize) -> (NodeId, Vec<Vec<u8>>, &'a Tree) {
        match self.known.iter().nth(number % (self.known.len() + 1)) {
            Some((node, known)) => (*node, known.path.clone(), known.tree),
            None => (NodeId::ROOT, Vec::new(), self.root),
        }
    }

    fn identity(
        &self,
        parent: &[Vec<u8>],
        parent_tree: &Tree,
        name: &[u8],
        tree: &Tree,
    ) -> Identity {
        match tree {
            Tree::Directory(_) => Identity::Directory([parent, &[name.to_vec()]].concat()),
            Tree::File(content, executable) => Identity::File(content.clone(), *executable),
            Tree::Symlink(_) if parent.is_empty() => {
                Identity::Symlink(String::new(), name.to_vec())
            }
            Tree::Symlink(_) => Identity::Symlink(format!("{parent_tree:?}"), name.to_vec()),
        }
    }

    /// Notes that an entry of a directory was found, and checks the answer.
    fn found(&mut self, parent: (&[Vec<u8>], &'a Tree), name: &[u8], found: &Found) {
        let (path, parent_tree) = parent;
        let tree = &entries(parent_tree).expect("a directory")[name];
        let identity = self.identity(path, parent_tree, name, tree);
        assert_eq!(found.attr.kind, kind(tree));
        match tree {
            Tree::File(content, _) => assert_eq!(found.attr.size, content.len() as u64),
            Tree::Symlink(target) => assert_eq!(found.attr.size, target.len() as u64),
            Tree::Directory(_) => {}
        }
        assert_ne!(found.node, NodeId::ROOT);
        if let Some(node) = self.by_identity.get(&identity) {
            assert_eq!(found.node, *node, "{identity:?} has another number now");
        }
        let seen = self
            .inos
            .entry(found.attr.ino)
            .or_insert_with(|| identity.clone());
        assert_eq!(*seen, identity, "two nodes with one inode number");
        self.by_identity.insert(identity.clone(), found.node);
        let known = self.known.entry(found.node).or_insert_with(|| Known {
            path: [path, &[name.to_vec()]].concat(),
            tree,
            identity: identity.clone(),
            attr: found.attr,
            count: 0,
        });
        assert_eq!(known.identity, identity, "one number for two nodes");
        assert_eq!(known.attr, found.attr);
        known.count += 1;
    }

    fn forget(&mut self, node: NodeId, count: u64) {
        let Some(known) = self.known.get_mut(&node) else {
            return;
        };
        let count = count.min(known.count);
        self.filesystem.forget(node, count);
        known.count -= count;
        if known.count == 0 {
            let known = self.known.remove(&node).expect("it is there");
            self.by_identity.remove(&known.identity);
        }
    }

    fn run(&mut self, request: &Request) {
        match request {
            Request::Lookup { node, name } => {
                let (node, path, tree) = self.pick(*node);
                match entries(tree) {
                    None => assert!(matches!(
                        self.filesystem.lookup(node, b"x"),
                        Err(FsError::NotADirectory)
                    )),
                    Some(entries) if entries.is_empty() => {}
                    Some(entries) => {
                        let name = entries.keys().nth(name % entries.len()).expect("a name");
                        match self.filesystem.lookup(node, name) {
                            Ok(Lookup::Found(found)) => self.found((&path, tree), name, &found),
                            other => panic!("{name:?} in {path:?}: {other:?}"),
                        }
                    }
                }
            }
            Request::LookupMissing { node } => {
                let (node, _, tree) = self.pick(*node);
                let result = self.filesystem.lookup(node, b"not there");
                match (node, tree) {
                    (NodeId::ROOT, _) => assert!(matches!(result, Err(FsError::NotFound))),
                    (_, Tree::Directory(_)) => assert!(matches!(result, Ok(Lookup::Never))),
                    _ => assert!(matches!(result, Err(FsError::NotADirectory))),
                }
            }
            Request::Forget { node, count } => {
                let (node, ..) = self.pick(*node);
                self.forget(node, *count);
            }
            Request::Getattr { node } => {
                let (node, ..) = self.pick(*node);
                let attr = self.filesystem.getattr(node).expect("it is known");
                match self.known.get(&node) {
                    Some(known) => assert_eq!(attr, known.attr),
                    None => assert_eq!(attr.ino, 1),
                }
            }
            Request::Readlink { node } => {
                let (node, _, tree) = self.pick(*node);
                match (self.filesystem.readlink(node), tree) {
                    (Ok(target), Tree::Symlink(expected)) => assert_eq!(target, expected),
                    (Err(FsError::NotASymlink), Tree::Directory(_) | Tree::File(..)) => {}
                    (other, _) => panic!("{other:?}"),
                }
            }
            Request::Read { node, offset, len } => {
                let (node, _, tree) = self.pick(*node);
                let mut buf = vec![0xaa; *len];
                match (self.filesystem.read(node, &mut buf, *offset as u64), tree) {
                    (Ok(len), Tree::File(content, _)) => {
                        let expected = content.get(*offset..).unwrap_or_default();
                        let expected = &expected[..expected.len().min(buf.len())];
                        assert_eq!(&buf[..len], expected);
                    }
                    (Err(FsError::IsADirectory), Tree::Directory(_)) => {}
                    (Err(FsError::NotAFile), Tree::Symlink(_)) => {}
                    (other, _) => panic!("{other:?}"),
                }
            }
            Request::List { node, pieces, plus } => {
                let (node, path, tree) = self.pick(*node);
                if let Some(entries) = entries(tree) {
                    self.list(node, (&path, tree), entries, pieces, *plus);
                }
            }
        }
    }

    fn list(
        &mut self,
        node: NodeId,
        at: (&[Vec<u8>], &'a Tree),
        expected: &BTreeMap<Vec<u8>, Tree>,
        pieces: &[usize],
        plus: bool,
    ) {
        self.filesystem.opendir(node).expect("a directory");
        let mut listed = Vec::new();
        let mut offset = 0;
        // At least one line each, or it would not come to an end.
        let sizes = pieces.iter().map(|size| size + 1);
        for size in sizes.cycle() {
            let lines = self.piece(node, offset, size, plus);
            let Some(last) = lines.last() else {
                break;
            };
            offset = last.next;
            for line in lines {
                if let Some(found) = &line.found {
                    assert_eq!(found.attr.ino, line.ino);
                    self.found(at, &line.name, found);
                }
                listed.push((line.name, line.kind));
            }
        }
        let dots = [b".".to_vec(), b"..".to_vec()].map(|name| (name, Kind::Directory));
        let rest = expected
            .iter()
            .map(|(name, tree)| (name.clone(), kind(tree)));
        if node == NodeId::ROOT {
            // In the order of keys.
            listed[dots.len()..].sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        assert_eq!(listed, dots.into_iter().chain(rest).collect::<Vec<_>>());
    }

    fn piece(&self, node: NodeId, offset: u64, size: usize, plus: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut add = |line: &store_fs::core::DirEntry<'_>, found: Option<&Found>| {
            if lines.len() == size {
                return false;
            }
            lines.push(Line {
                name: line.name.to_vec(),
                next: line.next,
                kind: line.kind,
                ino: line.ino,
                found: found.copied(),
            });
            true
        };
        let result = if plus {
            self.filesystem.readdirplus(node, offset, &mut add)
        } else {
            self.filesystem
                .readdir(node, offset, &mut |line| add(line, None))
        };
        result.expect("it can be listed");
        lines
    }
}

struct Line {
    name: Vec<u8>,
    next: u64,
    kind: Kind,
    ino: u64,
    found: Option<Found>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_core_does_what_the_model_does(
        trees in prop::collection::btree_map("[a-z]{1,6}", any_tree(), 1..4),
        requests in prop::collection::vec(any_request(), 0..200),
        order in any::<u64>(),
    ) {
        let store = Store::default();
        for (name, tree) in &trees {
            store.add(name, tree);
        }
        let filesystem = store.filesystem(Options {
            // So small that things are dropped and fetched again.
            directory_cache: 4096,
            opened_blobs: 2,
            ..Options::default()
        });
        let root = dir(trees);
        let mut model = Model {
            root: &root,
            filesystem: &filesystem,
            known: BTreeMap::new(),
            by_identity: BTreeMap::new(),
            inos: HashMap::new(),
        };
        for request in &requests {
            model.run(request);
            let nodes = filesystem.stats().nodes;
            prop_assert!(nodes >= model.known.len());
        }
        // In no particular order.
        let mut nodes: Vec<_> = model.known.keys().copied().collect();
        nodes.sort_by_key(|node| node.0.wrapping_mul(order | 1));
        for node in nodes {
            model.forget(node, u64::MAX);
        }
        prop_assert_eq!(filesystem.stats().nodes, 0);
    }
}

#[test]
fn unknown_nodes_are_stale() {
    let filesystem = Store::default().filesystem(Options::default());
    for node in [0, 2, 77, u64::MAX].map(NodeId) {
        assert!(matches!(filesystem.getattr(node), Err(FsError::Stale(_))));
        assert!(matches!(
            filesystem.lookup(node, b"x"),
            Err(FsError::Stale(_))
        ));
        assert!(matches!(filesystem.opendir(node), Err(FsError::Stale(_))));
        assert!(matches!(
            filesystem.read(node, &mut [0], 0),
            Err(FsError::Stale(_))
        ));
        filesystem.forget(node, 1);
    }
    assert_eq!(filesystem.stats().nodes, 0);
}
