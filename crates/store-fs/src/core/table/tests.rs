use std::{collections::HashSet, thread};

use super::*;
use crate::core::RootKey;

fn digest(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

fn key(number: u64) -> RootKey {
    RootKey(*digest(number).as_bytes())
}

fn top(number: u64) -> Node {
    Node {
        kind: Kind::Directory,
        digest: digest(0),
        size: 1,
        ino: number,
        place: Place::Top(key(number)),
    }
}

fn directory(parent: Slot, ordinal: u32) -> Node {
    Node {
        kind: Kind::Directory,
        digest: digest(0),
        size: 1,
        ino: 2,
        place: Place::Child { parent, ordinal },
    }
}

fn file(parent: Slot, content: u64, executable: bool) -> Node {
    Node {
        kind: Kind::File { executable },
        digest: digest(content),
        size: 5,
        ino: 3,
        place: Place::Child { parent, ordinal: 9 },
    }
}

fn symlink(parent: Slot, ordinal: u32) -> Node {
    Node {
        kind: Kind::Symlink,
        digest: digest(0),
        size: 7,
        ino: 4,
        place: Place::Child { parent, ordinal },
    }
}

fn intern(table: &Table, node: &Node) -> Slot {
    table.intern(node).expect("there is room")
}

#[test]
fn numbers_are_taken_apart() {
    for (shard, chunk, index) in [(0, 0, 0), (15, 0, 1023), (3, 77, 500), (15, 0x3ffff, 1023)] {
        let slot = Slot::new(shard, chunk, index);
        assert_eq!(
            (slot.shard(), slot.chunk(), slot.index()),
            (shard, chunk as usize, index)
        );
        assert_eq!(Slot::try_from(NodeId::from(slot)), Ok(slot));
    }
    assert_eq!(Slot::new(15, 0x3ffff, 1023).0, u32::MAX);
    assert_eq!(NodeId::from(Slot::ROOT), NodeId::ROOT);
    assert_eq!(Slot::try_from(NodeId(0)), Err(()));
    assert_eq!(Slot::try_from(NodeId(u64::MAX)), Err(()));
}

#[test]
fn the_same_node_has_the_same_number() {
    let table = Table::new();
    let a = intern(&table, &top(1));
    let b = intern(&table, &top(2));
    assert_ne!(a, b, "two places");
    assert_eq!(intern(&table, &top(1)), a);
    assert_ne!(
        intern(&table, &directory(a, 0)),
        intern(&table, &directory(b, 0))
    );
    assert_ne!(
        intern(&table, &directory(a, 0)),
        intern(&table, &directory(a, 1))
    );
    assert_eq!(
        intern(&table, &file(a, 1, false)),
        intern(&table, &file(b, 1, false))
    );
    assert_ne!(
        intern(&table, &file(a, 1, false)),
        intern(&table, &file(a, 1, true))
    );
    assert_ne!(
        intern(&table, &file(a, 1, false)),
        intern(&table, &file(a, 2, false))
    );
    assert_eq!(
        intern(&table, &symlink(a, 0)),
        intern(&table, &symlink(b, 0))
    );
    assert_ne!(
        intern(&table, &symlink(a, 0)),
        intern(&table, &symlink(a, 1))
    );
}

#[test]
fn what_is_interned_can_be_read() {
    let table = Table::new();
    let parent = intern(&table, &top(1));
    let symlink_at_top = Node {
        place: Place::Top(key(3)),
        digest: Digest::from_bytes(key(3).0),
        ..symlink(parent, 0)
    };
    let file_at_top = Node {
        place: Place::Top(key(4)),
        ..file(parent, 8, true)
    };
    for node in [
        top(2),
        directory(parent, 5),
        file(parent, 1, true),
        symlink(parent, 2),
        symlink_at_top,
        file_at_top,
    ] {
        let slot = intern(&table, &node);
        assert_eq!(table.get(slot), Some(node));
        assert_eq!(intern(&table, &node), slot);
    }
}

#[test]
fn forgotten_nodes_are_gone() {
    let table = Table::new();
    let slot = intern(&table, &top(1));
    intern(&table, &top(1));
    table.forget(slot, 1);
    assert_eq!(table.get(slot), Some(top(1)));
    table.forget(slot, 1);
    assert_eq!(table.get(slot), None);
    assert_eq!(table.len(), 0);
    // Nobody refers to it, but the kernel may be mistaken.
    table.forget(slot, 1);
    table.forget(Slot(u32::MAX), 1);
    table.forget(Slot::ROOT, 5);
    assert_eq!(
        table.intern(&directory(slot, 0)),
        Err(InternError::NoParent)
    );
}

#[test]
fn a_parent_stays_while_a_child_does() {
    let table = Table::new();
    let a = intern(&table, &top(1));
    let b = intern(&table, &directory(a, 0));
    let c = intern(&table, &file(b, 1, false));
    table.forget(a, 1);
    table.forget(b, 1);
    assert_eq!(table.len(), 3, "b and c name their parents");
    assert_eq!(
        intern(&table, &top(1)),
        a,
        "the number is the same as before"
    );
    table.forget(a, 1);
    table.forget(c, 1);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_shared_file_keeps_its_first_place() {
    let table = Table::new();
    let a = intern(&table, &top(1));
    let b = intern(&table, &top(2));
    let c = intern(&table, &file(a, 1, false));
    assert_eq!(intern(&table, &file(b, 1, false)), c);
    table.forget(b, 1);
    assert_eq!(table.get(b), None, "nothing names it");
    table.forget(a, 1);
    assert_eq!(table.get(c).map(|node| node.place.parent()), Some(Some(a)));
    table.forget(c, 2);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_count_that_is_too_high_forgets_all() {
    let table = Table::new();
    let slot = intern(&table, &top(1));
    table.forget(slot, u64::MAX);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_count_that_cannot_be_kept_keeps_the_node() {
    let record = record::Record::new(record::Tag::File, [0; 32], 0);
    record.look_up();
    assert_eq!(record.lookups(), 1);
    for _ in 0..5 {
        record.look_up();
    }
    assert!(!record.forget(5));
    assert!(record.forget(u64::MAX));
}

#[test]
fn a_million_nodes_are_small_and_go_away() {
    let table = Table::new();
    let parent = intern(&table, &top(1));
    let slots: HashSet<_> = (0..1_000_000)
        .map(|content| intern(&table, &file(parent, content, false)))
        .collect();
    assert_eq!(slots.len(), 1_000_000);
    assert_eq!(table.len(), 1_000_001);
    let bytes: usize = table.shards.iter().map(|shard| shard.read().memory()).sum();
    assert!(bytes <= 80_000_000, "{bytes} bytes for a million nodes");
    for slot in slots {
        table.forget(slot, 1);
    }
    table.forget(parent, 1);
    assert_eq!(table.len(), 0);
    let bytes: usize = table.shards.iter().map(|shard| shard.read().memory()).sum();
    assert!(bytes <= 4_000_000, "{bytes} bytes for no node");
}

#[test]
fn threads_agree() {
    let table = Table::new();
    let work = || {
        for round in 0..2000_u64 {
            let a = intern(&table, &top(round % 7));
            let b = intern(&table, &directory(a, (round % 3) as u32));
            let c = intern(&table, &file(b, round % 11, round % 2 == 0));
            let d = intern(&table, &symlink(b, 1));
            assert_eq!(
                table.get(c),
                Some(Node {
                    place: table.get(c).expect("held").place,
                    ..file(b, round % 11, round % 2 == 0)
                })
            );
            // The order is not that of making them.
            for slot in [a, c, b, d] {
                table.forget(slot, 1);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    assert_eq!(table.len(), 0);
}
