//! A value is set and an array negated by a child, in memory that both see.

use pshared::{Array, Process, Value};

use super::Outcome;

pub(crate) fn run() -> Outcome {
    let number = Value::new(0.0_f32)?;
    let array = Array::new(&[0_i32, 1, 2, 3, 4, 5, 6, 7, 8, 9])?;
    let child = Process::spawn(|| {
        number.set(std::f32::consts::PI);
        (0..array.len()).all(|i| array.get(i).and_then(|n| array.set(i, -n)).is_ok())
    })?;
    child.join()?;
    println!("{}", number.get());
    println!("{:?}", array.to_vec()?);
    Ok(())
}
