use std::{collections::HashSet, thread};

use super::{
    record::{Content, Record, Tag},
    *,
};
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

fn table() -> Table {
    resumed(&Arc::new(State::new().expect("a state"))).expect("it is new")
}

fn resumed(state: &Arc<State>) -> Result<Table, StateError> {
    Table::new(Arc::clone(state))
}

fn intern(table: &Table, node: &Node) -> Slot {
    table.intern(node).expect("there is room")
}

#[test]
fn numbers_are_taken_apart() {
    let last = Slot::CHUNKS - 1;
    for (shard, chunk, index) in [(0, 0, 0), (15, 0, 1023), (3, 77, 500), (15, last, 1023)] {
        let slot = Slot::new(shard, chunk, index);
        assert_eq!(
            (slot.shard(), slot.chunk(), slot.index()),
            (shard, chunk as usize, index)
        );
        assert_eq!(Slot::try_from(NodeId::from(slot)), Ok(slot));
    }
    assert_eq!(Slot::new(15, last, 1023).0 as usize, layout::RECORDS - 1);
    assert_eq!(Slot::try_from(NodeId(layout::RECORDS as u64 + 1)), Err(()));
    assert_eq!(NodeId::from(Slot::ROOT), NodeId::ROOT);
    assert_eq!(Slot::try_from(NodeId(0)), Err(()));
    assert_eq!(Slot::try_from(NodeId(u64::MAX)), Err(()));
}

#[test]
fn the_same_node_has_the_same_number() {
    let table = table();
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
    let table = table();
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
    let table = table();
    let slot = intern(&table, &top(1));
    intern(&table, &top(1));
    table.forget(slot, 1);
    assert_eq!(table.get(slot), Some(top(1)));
    table.forget(slot, 1);
    assert_eq!(table.get(slot), None);
    assert_eq!(table.len(), 0);
    // Nobody refers to it, but the kernel may be mistaken.
    table.forget(slot, 1);
    table.forget(Slot(layout::RECORDS as u32 - 1), 1);
    table.forget(Slot::ROOT, 5);
    assert_eq!(
        table.intern(&directory(slot, 0)),
        Err(InternError::NoParent)
    );
}

#[test]
fn a_parent_stays_while_a_child_does() {
    let table = table();
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
    let table = table();
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
    let table = table();
    let slot = intern(&table, &top(1));
    table.forget(slot, u64::MAX);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_count_that_cannot_be_kept_keeps_the_node() {
    let state = Arc::new(State::new().expect("a state"));
    let records = Records::new(state).expect("it can be mapped");
    let record = records.get(Slot(5));
    record.fill(&Content::new(Tag::File, [0; 32]));
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
    let table = table();
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

/// All that a process knows of a table: node, lookups and number.
fn contents(table: &Table, slots: &[Slot]) -> Vec<(Slot, Option<Node>)> {
    slots.iter().map(|slot| (*slot, table.get(*slot))).collect()
}

#[test]
fn the_next_process_goes_on() {
    let state = Arc::new(State::new().expect("a state"));
    let first = resumed(&state).expect("it is new");
    let a = intern(&first, &top(1));
    let mut slots = vec![a];
    for number in 0..3000 {
        slots.push(intern(&first, &directory(a, number)));
        slots.push(intern(&first, &file(a, u64::from(number), number % 2 == 0)));
        slots.push(intern(&first, &symlink(a, number)));
        slots.push(intern(&first, &top(u64::from(number) + 10)));
    }
    // Some go, some are looked up twice, some only have children.
    let mut gone = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        match index % 5 {
            2 => {
                first.forget(*slot, 1);
                gone.push(*slot);
            }
            3 => assert_eq!(intern(&first, &first.get(*slot).expect("there")), *slot),
            _ => {}
        }
    }
    first.forget(a, 2);
    let before = (contents(&first, &slots), first.len());
    drop(first);

    let second = resumed(&state).expect("it is sound");
    assert_eq!((contents(&second, &slots), second.len()), before);
    assert_eq!(state.counters().nodes, before.1);
    for (slot, node) in before.0 {
        let Some(node) = node else { continue };
        assert_eq!(intern(&second, &node), slot, "the same number");
        second.forget(slot, 1);
    }
    let new: HashSet<_> = (0..5000)
        .map(|n| intern(&second, &file(a, n + 9000, true)))
        .collect();
    assert_eq!(new.len(), 5000);
    for slot in new.iter().chain(&slots) {
        second.forget(*slot, 2);
    }
    assert_eq!(second.len(), 0, "nothing was counted twice");
}

#[test]
fn a_death_amid_a_lookup_or_forget() {
    for step in 0..=Record::STEPS {
        for with_key in [false, true] {
            let state = Arc::new(State::new().expect("a state"));
            let first = resumed(&state).expect("it is new");
            let a = intern(&first, &top(1));
            let b = intern(&first, &directory(a, 0));
            let count = first.len();
            // What a lookup writes, up to some point.
            let records = Records::new(Arc::clone(&state)).expect("it can be mapped");
            let free = Slot::new(a.shard(), a.chunk() as u32, 700);
            if with_key {
                records
                    .get(Slot(free.0 + 1))
                    .fill(&Content::new(Tag::Key, key(7).0));
            }
            let child = Content {
                lookups: 1,
                parent: b.0,
                ..Content::new(Tag::Symlink, [3; 32])
            };
            for step in 0..step {
                records.get(free).fill_step(&child, step);
            }
            drop(first);
            let second = resumed(&state).expect("such a death is no damage");
            assert_eq!(second.len(), count);
            assert_eq!(second.get(free), None);
            // What was half written is in nobody's way.
            let slots: Vec<_> = (0..40_000)
                .map(|n| intern(&second, &file(b, n, false)))
                .collect();
            for slot in slots {
                second.forget(slot, 1);
            }
            // A forget, up to the point where the record would be freed.
            second.shard(b).read().forget(b, 1);
            drop(second);
            let third = resumed(&state).expect("it is sound");
            assert_eq!(third.len(), 1, "b was referred to by nobody");
            third.forget(a, 1);
            assert_eq!(third.len(), 0);
        }
    }
}

#[test]
fn parents_that_nothing_pins_go() {
    let state = Arc::new(State::new().expect("a state"));
    let first = resumed(&state).expect("it is new");
    let mut parent = intern(&first, &top(1));
    for depth in 0..100 {
        let child = intern(&first, &directory(parent, depth));
        first.forget(parent, 1);
        parent = child;
    }
    assert_eq!(first.len(), 101);
    first.shard(parent).read().forget(parent, 1);
    drop(first);
    assert_eq!(resumed(&state).expect("it is sound").len(), 0);
}

#[test]
fn damage_is_refused() {
    type Damage = fn(&Records, Slot);
    let damages: [(&str, Damage); 6] = [
        ("is nothing known", |records, b| {
            records.get(b).set_tag_bits(7)
        }),
        ("is in no directory", |records, b| {
            records.get(b).set_parent(77)
        }),
        ("is in no directory", |records, b| {
            records.get(b).set_parent(layout::RECORDS as u32 - 1);
        }),
        ("is below itself", |records, b| {
            records.get(b).set_parent(b.0)
        }),
        ("has no key of its own", |records, b| {
            records.get(b).set_parent(0)
        }),
        ("is not the root", |records, _| {
            records.get(Slot::ROOT).set_tag_bits(0)
        }),
    ];
    for (message, damage) in damages {
        let state = Arc::new(State::new().expect("a state"));
        let first = resumed(&state).expect("it is new");
        let a = intern(&first, &top(1));
        let b = intern(&first, &directory(a, 9));
        drop(first);
        let records = Records::new(Arc::clone(&state)).expect("it can be mapped");
        damage(&records, b);
        let error = resumed(&state).expect_err("it is damaged");
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_million_nodes_are_taken_over() {
    let state = Arc::new(State::new().expect("a state"));
    let first = resumed(&state).expect("it is new");
    let parent = intern(&first, &top(1));
    for content in 0..1_000_000 {
        intern(&first, &file(parent, content, false));
    }
    drop(first);
    let begun = std::time::Instant::now();
    let second = resumed(&state).expect("it is sound");
    println!("a million nodes are taken over in {:?}", begun.elapsed());
    assert_eq!(second.len(), 1_000_001);
}

#[test]
fn threads_agree() {
    let table = table();
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
