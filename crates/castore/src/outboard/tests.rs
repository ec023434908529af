use super::*;

/// Sizes on both sides of every boundary.
fn sizes() -> impl Iterator<Item = usize> {
    [0, 1, 1024, GROUP_LEN, 2 * GROUP_LEN, 3 * GROUP_LEN + 5]
        .into_iter()
        .chain([SUPERBLOCK_LEN, 2 * SUPERBLOCK_LEN, 3 * SUPERBLOCK_LEN + 777])
        .flat_map(|size: usize| [size.saturating_sub(1), size, size + 1])
}

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| (i ^ (i >> 9) ^ (i >> 17)) as u8)
        .collect()
}

#[test]
fn digest_is_plain_blake3_and_every_group_verifies() {
    for size in sizes() {
        let bytes = content(size);
        let blob = HashedBlob::new(&bytes);
        assert_eq!(*blob.digest(), Digest::of(&bytes), "size {size}");
        assert_eq!(blob.outboard().len() as u64, outboard_len(size as u64));
        if size <= GROUP_LEN {
            continue;
        }
        let head = &blob.outboard()[..head_len(size as u64) as usize];
        let head = Head::verify(blob.digest(), size as u64, head).unwrap();
        for (number, superblock) in bytes.chunks(SUPERBLOCK_LEN).enumerate() {
            let values = match head.segment(number as u64) {
                None => head.groups().to_vec(),
                Some(range) => head
                    .verify_segment(
                        number as u64,
                        &blob.outboard()[range.start as usize..range.end as usize],
                    )
                    .unwrap()
                    .to_vec(),
            };
            assert_eq!(values.len(), superblock.len().div_ceil(GROUP_LEN));
            for (i, group) in superblock.chunks(GROUP_LEN).enumerate() {
                let offset = (number * SUPERBLOCK_LEN + i * GROUP_LEN) as u64;
                assert_eq!(group_value(offset, group), values[i]);
            }
        }
    }
}

#[test]
fn chunking_of_the_input_does_not_matter() {
    let bytes = content(SUPERBLOCK_LEN + 3 * GROUP_LEN + 11);
    let whole = HashedBlob::new(&bytes);
    for step in [1000, GROUP_LEN - 1, GROUP_LEN, GROUP_LEN + 1, 100_000] {
        let mut hasher = BlobHasher::default();
        bytes.chunks(step).for_each(|chunk| hasher.update(chunk));
        assert_eq!(hasher.finish(), whole.hashed, "step {step}");
    }
}

#[test]
fn a_flipped_bit_in_the_outboard_is_noticed() {
    let size = 2 * SUPERBLOCK_LEN + 5;
    let bytes = content(size);
    let blob = HashedBlob::new(&bytes);
    let head_len = head_len(size as u64) as usize;
    let head = Head::verify(blob.digest(), size as u64, &blob.outboard()[..head_len]).unwrap();
    for at in (0..blob.outboard().len()).step_by(97) {
        let mut outboard = blob.outboard().to_vec();
        outboard[at] ^= 4;
        if at < head_len {
            assert!(Head::verify(blob.digest(), size as u64, &outboard[..head_len]).is_none());
        } else {
            let superblock = ((at - head_len) / (GROUPS_PER_SUPERBLOCK * CV_LEN)) as u64;
            let range = head.segment(superblock).unwrap();
            let segment = &outboard[range.start as usize..range.end as usize];
            assert!(head.verify_segment(superblock, segment).is_none());
        }
    }
}
