//! How a message lies in a ring: a header of 8 bytes (its length), the payload, and padding to 8.
//!
//! Several in a row are a *batch*: a sender writes it in its own memory, with no lock held, and a receiver reads it
//! there likewise. The ring copies it as it is.

use crate::region::Plain;

/// What a record takes beside its payload, in bytes; and the unit of positions.
pub(crate) const HEADER: usize = 8;

/// The units that a payload of `len` bytes takes, header included.
#[inline]
pub(crate) fn units(len: usize) -> u32 {
    (1 + len.div_ceil(HEADER)) as u32
}

/// The header of a payload of `len` bytes.
#[inline]
pub(crate) fn header(len: usize) -> [u8; HEADER] {
    u64::from(len as u32).to_ne_bytes()
}

/// The length that stands in a header.
#[inline]
pub(crate) fn payload_len(header: [u8; HEADER]) -> usize {
    u64::from_ne_bytes(header) as u32 as usize
}

/// Adds to `batch` a record of what `write` appends. If it fails, or the payload is longer than `limit` (then its
/// length comes back inside), the batch is as before.
#[inline]
pub(crate) fn append<E>(
    batch: &mut Vec<u8>,
    limit: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Result<(), usize>, E> {
    let start = batch.len();
    batch.extend_from_slice(&[0; HEADER]);
    let written = write(batch);
    let len = batch.len() - start - HEADER;
    if written.is_err() || len > limit {
        batch.truncate(start);
        return written.map(|()| Err(len));
    }
    batch[start..start + HEADER].copy_from_slice(&header(len));
    batch.resize(start + HEADER * units(len) as usize, 0);
    Ok(Ok(()))
}

/// What a value of plain data takes, header and padding included.
#[inline]
const fn record_of<T>() -> usize {
    HEADER + size_of::<T>().next_multiple_of(HEADER)
}

/// Adds to `batch` a record of each of the first values, as many as `bytes` hold, but at least one.
pub(crate) fn append_plain<T: Plain>(batch: &mut Vec<u8>, values: &[T], bytes: usize) {
    let values = &values[..values.len().min((bytes / record_of::<T>()).max(1))];
    let start = batch.len();
    batch.resize(start + values.len() * record_of::<T>(), 0);
    for (record, value) in batch[start..].chunks_exact_mut(record_of::<T>()).zip(values) {
        record[..HEADER].copy_from_slice(&header(size_of::<T>()));
        record[HEADER..HEADER + size_of::<T>()].copy_from_slice(bytemuck::bytes_of(value));
    }
}

/// Appends to `values` what a batch holds, if all of it has the length of a `T`; says whether it has.
pub(crate) fn read_plain<T: Plain>(batch: &[u8], values: &mut Vec<T>) -> bool {
    let records = batch.chunks_exact(record_of::<T>());
    let is_value = |record: &[u8]| record.starts_with(&header(size_of::<T>()));
    if !records.remainder().is_empty() || !records.clone().all(is_value) {
        return false;
    }
    values.extend(
        records.map(|record| -> T { bytemuck::pod_read_unaligned(&record[HEADER..HEADER + size_of::<T>()]) }),
    );
    true
}

/// The payloads of a batch.
pub(crate) fn payloads(mut batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header, rest) = batch.split_first_chunk()?;
        let len = payload_len(*header).min(rest.len());
        batch = rest.get(len.next_multiple_of(HEADER)..).unwrap_or_default();
        Some(&rest[..len])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(payloads: &[&[u8]]) -> Vec<u8> {
        let mut batch = Vec::new();
        for payload in payloads {
            let write = |to: &mut Vec<u8>| {
                to.extend_from_slice(payload);
                Ok::<(), ()>(())
            };
            assert_eq!(append(&mut batch, 20, write), Ok(Ok(())));
        }
        batch
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let parts: [&[u8]; 5] = [b"", b"1", b"12345678", b"123456789", b""];
        let batch = batch(&parts);
        assert_eq!(batch.len(), 8 * (1 + 2 + 2 + 3 + 1));
        assert!(payloads(&batch).eq(parts));
    }

    #[test]
    fn what_cannot_be_written_leaves_the_batch_as_it_was() {
        let before = batch(&[b"first"]);
        let mut after = before.clone();
        let too_long = append(&mut after, 20, |to| {
            to.extend_from_slice(&[0; 21]);
            Ok::<(), ()>(())
        });
        assert_eq!(too_long, Ok(Err(21)));
        let failed = append(&mut after, 20, |to| {
            to.push(1);
            Err("no")
        });
        assert_eq!((failed, after), (Err("no"), before));
    }

    #[test]
    fn a_length_that_cannot_be_reads_no_further_than_the_batch() {
        let mut batch = batch(&[b"12345678"]);
        batch[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(payloads(&batch).eq([b"12345678"]));
    }
}
