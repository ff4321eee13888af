//! Operation lists against an array, a value and a number, and against plain ones.

use arbitrary::Arbitrary;
use pshared::{Array, Atomic, Value};

#[derive(Arbitrary, Debug)]
enum Op {
    Set(u8, u32),
    Get(u8),
    CopyIn(u8, Vec<u32>),
    CopyOut(u8, u8),
    Fill(u32),
    Update(u8, u64),
    Add(i16),
    Max(i16),
}

pub fn run(data: &[u8]) {
    let Some((mut plain, ops)) = super::case::<(Vec<u32>, Vec<Op>)>(data) else { return };
    let Ok(array) = Array::new(&plain) else {
        assert!(plain.is_empty());
        return;
    };
    let (value, mut plain_value) = (Value::new([0_u64; 5]).unwrap(), [0_u64; 5]);
    let (number, mut plain_number) = (Atomic::new(0_i16).unwrap(), 0_i16);
    for op in ops {
        match op {
            Op::Set(i, n) => match plain.get_mut(usize::from(i)) {
                Some(place) => {
                    *place = n;
                    array.set(i.into(), n).unwrap();
                }
                None => assert!(array.set(i.into(), n).is_err()),
            },
            Op::Get(i) => assert_eq!(array.get(i.into()).ok(), plain.get(usize::from(i)).copied()),
            Op::CopyIn(start, row) => {
                match plain.get_mut(usize::from(start)..).and_then(|p| p.get_mut(..row.len())) {
                    Some(places) => {
                        places.copy_from_slice(&row);
                        array.copy_from_slice(start.into(), &row).unwrap();
                    }
                    None => assert!(array.copy_from_slice(start.into(), &row).is_err()),
                }
            }
            Op::CopyOut(start, len) => {
                let mut row = vec![0; len.into()];
                match plain.get(usize::from(start)..).and_then(|p| p.get(..row.len())) {
                    Some(places) => {
                        array.copy_to_slice(start.into(), &mut row).unwrap();
                        assert_eq!(row, places);
                    }
                    None => assert!(array.copy_to_slice(start.into(), &mut row).is_err()),
                }
            }
            Op::Fill(n) => {
                plain.fill(n);
                array.lock().unwrap().fill(n);
            }
            Op::Update(i, n) => {
                let i = usize::from(i) % 5;
                plain_value[i] ^= n;
                value.update(|row| row[i] ^= n);
                assert_eq!(value.get(), plain_value);
            }
            Op::Add(n) => {
                assert_eq!(number.fetch_add(n), plain_number);
                plain_number = plain_number.wrapping_add(n);
            }
            Op::Max(n) => {
                assert_eq!(number.fetch_max(n), plain_number);
                plain_number = plain_number.max(n);
            }
        }
    }
    assert_eq!(array.to_vec().unwrap(), plain);
    assert_eq!(number.get(), plain_number);
}
