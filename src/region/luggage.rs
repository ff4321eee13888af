//! How shared objects travel to a process that no fork made.
//!
//! A handle is a mapping and a place in it; neither means anything elsewhere. So a handle that is serialised becomes a
//! number, its place in a table of what goes along: for each object its type, and where its parts lie in which region.
//! The table is made here and nowhere else ([`packed`]); it goes beside the message, with the descriptors; and while
//! the message is read ([`unpacked`]), a number is good for one look into that table. Whatever other bytes say, no
//! handle comes of them that was not packed as one, of that type.
//!
//! Outside of the two there is no table, and a handle refuses to be serialised: [`HandleError::Elsewhere`]. Serialisers
//! keep no errors of others, so the refusal is noted, for whoever called the serialiser ([`take_refusal`]).

use std::{
    any::type_name,
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{error::HandleError, region::Region};

/// What can be packed: parts in regions, and numbers.
pub(crate) trait Portable: Sized {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError>;
    /// The same parts in the same order.
    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Self, HandleError>;
}

/// Makes a type portable, by its fields; and so serialisable, where that means anything.
macro_rules! portable {
    (of ($($generic:ident),*) $name:ty { $($field:tt),* }) => {
        impl<$($generic),*> $crate::region::Portable for $name {
            fn pack(&self, packer: &mut $crate::region::Packer<'_>) -> Result<(), $crate::error::HandleError> {
                $($crate::region::Portable::pack(&self.$field, packer)?;)*
                Ok(())
            }

            fn unpack(
                unpacker: &mut $crate::region::Unpacker<'_>,
            ) -> Result<Self, $crate::error::HandleError> {
                Ok(Self { $($field: $crate::region::Portable::unpack(unpacker)?),* })
            }
        }

        $crate::region::portable!(of ($($generic),*) $name);
    };
    (of ($($generic:ident),*) $name:ty) => {
        /// Only in the start of a process: see [`HandleError`](crate::HandleError).
        impl<$($generic),*> serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::region::serialize(self, serializer)
            }
        }

        /// Only in the start of a process: see [`HandleError`](crate::HandleError).
        impl<'de, $($generic),*> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::region::deserialize(deserializer)
            }
        }
    };
    ($($plain:tt)*) => { $crate::region::portable!(of () $($plain)*); };
}
pub(crate) use portable;

/// One object of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    kind: u64,
    parts: Vec<u64>,
}

/// What goes beside a message.
#[derive(Debug, Default)]
pub(crate) struct Luggage {
    pub(crate) objects: Vec<Object>,
    pub(crate) files: Vec<Piece>,
}

/// A descriptor that goes along.
#[derive(Debug)]
pub(crate) enum Piece {
    Region(Region),
    File(OwnedFd),
}

impl AsFd for Piece {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Piece::Region(region) => region.descriptor(),
            Piece::File(file) => file.as_fd(),
        }
    }
}

/// What has come beside a message.
#[derive(Default)]
struct Arrived {
    objects: Vec<Object>,
    files: Vec<Option<OwnedFd>>,
    regions: BTreeMap<usize, Region>,
}

/// What handles do in the calling thread.
#[derive(Default)]
enum Counter {
    #[default]
    Closed,
    Packing(Luggage),
    Unpacking(Arrived),
}

thread_local! {
    static COUNTER: RefCell<Counter> = const { RefCell::new(Counter::Closed) };
    static REFUSAL: Cell<Option<HandleError>> = const { Cell::new(None) };
}

/// Runs `body` with that counter open, also if it panics, and gives the counter back.
fn at<R>(counter: Counter, body: impl FnOnce() -> R) -> (R, Counter) {
    struct Restore(Option<Counter>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                COUNTER.set(before);
            }
        }
    }
    let mut before = Restore(Some(COUNTER.replace(counter)));
    let result = body();
    let used = COUNTER.replace(before.0.take().unwrap_or_default());
    (result, used)
}

/// Runs `body`, in which handles may be serialised, and says what must go along.
pub(crate) fn packed<R>(body: impl FnOnce() -> R) -> (R, Luggage) {
    REFUSAL.set(None);
    match at(Counter::Packing(Luggage::default()), body) {
        (result, Counter::Packing(luggage)) => (result, luggage),
        (result, _) => (result, Luggage::default()),
    }
}

/// Runs `body`, in which the handles of that table may be deserialised.
pub(crate) fn unpacked<R>(objects: Vec<Object>, files: Vec<OwnedFd>, body: impl FnOnce() -> R) -> R {
    REFUSAL.set(None);
    let files = files.into_iter().map(Some).collect();
    at(Counter::Unpacking(Arrived { objects, files, regions: BTreeMap::new() }), body).0
}

/// Shuts the counter in the middle of [`unpacked`]: all that is to be read was. What nobody asked for is closed.
pub(crate) fn all_unpacked() {
    COUNTER.set(Counter::Closed);
}

/// What the last handle of this thread said that refused; once.
pub(crate) fn take_refusal() -> Option<HandleError> {
    REFUSAL.take()
}

pub(crate) fn serialize<T: Portable, S: Serializer>(object: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let place = COUNTER.with_borrow_mut(|counter| {
        let Counter::Packing(luggage) = counter else { return Err(HandleError::Elsewhere) };
        let mut parts = Vec::new();
        object.pack(&mut Packer { parts: &mut parts, files: &mut luggage.files })?;
        luggage.objects.push(Object { kind: kind::<T>(), parts });
        Ok(luggage.objects.len() as u32 - 1)
    });
    match place {
        Ok(place) => serializer.serialize_u32(place),
        Err(error) => Err(refuse(error, |error| ser::Error::custom(error))),
    }
}

pub(crate) fn deserialize<'de, T: Portable, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let place = u32::deserialize(deserializer)? as usize;
    let opened = COUNTER.with_borrow_mut(|counter| {
        let Counter::Unpacking(arrived) = counter else { return Err(HandleError::Elsewhere) };
        let Arrived { objects, files, regions } = arrived;
        let object = objects.get(place).filter(|object| object.kind == kind::<T>());
        let parts = object.ok_or(HandleError::Unknown)?.parts.iter();
        T::unpack(&mut Unpacker { parts, files, regions })
    });
    opened.map_err(|error| refuse(error, |error| de::Error::custom(error)))
}

/// Notes the refusal, and says it in the serialiser's way.
fn refuse<E>(error: HandleError, custom: impl FnOnce(&HandleError) -> E) -> E {
    let said = custom(&error);
    REFUSAL.set(Some(error));
    said
}

/// A number for the type: equal in all processes of a program. FNV-1a over its name.
fn kind<T>() -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    type_name::<T>().bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Where an object leaves its parts.
pub(crate) struct Packer<'a> {
    parts: &'a mut Vec<u64>,
    files: &'a mut Vec<Piece>,
}

impl Packer<'_> {
    pub(crate) fn number(&mut self, number: u64) -> Result<(), HandleError> {
        self.parts.push(number);
        Ok(())
    }

    pub(crate) fn region(&mut self, region: &Region) -> Result<(), HandleError> {
        let known =
            self.files.iter().position(|file| matches!(file, Piece::Region(other) if other.is(region)));
        let place = known.unwrap_or_else(|| {
            self.files.push(Piece::Region(region.clone()));
            self.files.len() - 1
        });
        self.number(place as u64)
    }

    pub(crate) fn file(&mut self, file: BorrowedFd<'_>) -> Result<(), HandleError> {
        self.files.push(Piece::File(file.try_clone_to_owned().map_err(refused("dup"))?));
        self.number(self.files.len() as u64 - 1)
    }
}

fn refused(call: &'static str) -> impl Fn(io::Error) -> HandleError {
    move |error| HandleError::Os { call, code: error.raw_os_error().unwrap_or(0) }
}

/// Where it finds them.
pub(crate) struct Unpacker<'a> {
    parts: slice::Iter<'a, u64>,
    files: &'a mut Vec<Option<OwnedFd>>,
    regions: &'a mut BTreeMap<usize, Region>,
}

impl Unpacker<'_> {
    pub(crate) fn number(&mut self) -> Result<u64, HandleError> {
        self.parts.next().copied().ok_or(HandleError::Unknown)
    }

    pub(crate) fn size(&mut self) -> Result<usize, HandleError> {
        Ok(self.number()? as usize)
    }

    pub(crate) fn region(&mut self) -> Result<Region, HandleError> {
        let place = self.size()?;
        if let Some(region) = self.regions.get(&place) {
            return Ok(region.clone());
        }
        let region = Region::attach(self.take(place)?)?;
        self.regions.insert(place, region.clone());
        Ok(region)
    }

    pub(crate) fn file(&mut self) -> Result<OwnedFd, HandleError> {
        let place = self.size()?;
        self.take(place)
    }

    fn take(&mut self, place: usize) -> Result<OwnedFd, HandleError> {
        self.files.get_mut(place).and_then(Option::take).ok_or(HandleError::Unknown)
    }
}

impl Portable for Region {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.region(self)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Region, HandleError> {
        unpacker.region()
    }
}
portable!(Region);

/// A descriptor as a part of a message. Opened once.
#[derive(Debug)]
pub(crate) struct Descriptor(pub(crate) OwnedFd);

impl Portable for Descriptor {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.file(self.0.as_fd())
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Descriptor, HandleError> {
        unpacker.file().map(Descriptor)
    }
}
portable!(Descriptor);

impl Portable for usize {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.number(*self as u64)
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<usize, HandleError> {
        unpacker.size()
    }
}

impl Portable for u32 {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.number(u64::from(*self))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<u32, HandleError> {
        u32::try_from(unpacker.number()?).map_err(|_| HandleError::Unknown)
    }
}

impl<T: Portable> Portable for Option<T> {
    fn pack(&self, packer: &mut Packer<'_>) -> Result<(), HandleError> {
        packer.number(u64::from(self.is_some()))?;
        self.as_ref().map_or(Ok(()), |part| part.pack(packer))
    }

    fn unpack(unpacker: &mut Unpacker<'_>) -> Result<Option<T>, HandleError> {
        match unpacker.number()? {
            0 => Ok(None),
            1 => T::unpack(unpacker).map(Some),
            _ => Err(HandleError::Unknown),
        }
    }
}

impl Portable for Option<Arc<dyn Fn() + Send + Sync>> {
    fn pack(&self, _: &mut Packer<'_>) -> Result<(), HandleError> {
        self.as_ref()
            .map_or(Ok(()), |_| Err(HandleError::Bound { what: "it holds a function of this process" }))
    }

    fn unpack(_: &mut Unpacker<'_>) -> Result<Self, HandleError> {
        Ok(None)
    }
}

impl<T> Portable for PhantomData<T> {
    fn pack(&self, _: &mut Packer<'_>) -> Result<(), HandleError> {
        Ok(())
    }

    fn unpack(_: &mut Unpacker<'_>) -> Result<PhantomData<T>, HandleError> {
        Ok(PhantomData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::{AtomicU64, Relaxed},
        region::{Handle, Row, Shareable},
    };

    struct Word(AtomicU64);

    // SAFETY: one atomic word.
    unsafe impl Shareable for Word {
        const ROBUST: &'static [usize] = &[];
    }

    struct Thing<T> {
        word: Handle<Word>,
        row: Row<Word>,
        note: u32,
        _type: PhantomData<T>,
    }
    portable!(of (T) Thing<T> { word, row, note, _type });

    fn thing<T>(region: &Region) -> Thing<T> {
        let make = || Word(AtomicU64::new(1));
        let (word, row) = region.place_with_row(make(), 3, make).unwrap();
        Thing { word, row, note: 7, _type: PhantomData }
    }

    /// Packs a value, and reads it back as another process of this program would.
    fn travel<A: Serialize, B: de::DeserializeOwned>(value: &A) -> Result<B, HandleError> {
        let (bytes, luggage) = packed(|| postcard::to_stdvec(value));
        let bytes = bytes.map_err(|_| take_refusal().unwrap())?;
        let files = luggage.files.iter().map(|file| file.as_fd().try_clone_to_owned().unwrap()).collect();
        let read = unpacked(luggage.objects, files, || postcard::from_bytes(&bytes));
        read.map_err(|_| take_refusal().unwrap())
    }

    #[test]
    fn what_was_packed_is_the_same_object() {
        let region = Region::anonymous(4096).unwrap();
        let (one, other) = (thing::<u8>(&region), thing::<u16>(&region));
        let (here, there): (Thing<u8>, Thing<u16>) = travel(&(&one, &other)).unwrap();
        here.word.0.store(5, Relaxed);
        there.row[2].0.store(6, Relaxed);
        assert_eq!((one.word.0.load(Relaxed), other.row[2].0.load(Relaxed)), (5, 6));
        assert_eq!((here.note, here.row.len(), other.word.0.load(Relaxed)), (7, 3, 1));
    }

    #[test]
    fn objects_of_one_region_share_its_descriptor() {
        let region = Region::anonymous(4096).unwrap();
        let things = [(); 5].map(|()| thing::<u8>(&region));
        let (bytes, luggage) = packed(|| postcard::to_stdvec(&things));
        assert_eq!((luggage.files.len(), luggage.objects.len()), (1, 5));
        assert_eq!(bytes.unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn bytes_make_no_handle_of_another_type_or_of_none() {
        let region = Region::anonymous(4096).unwrap();
        let said = |result: Result<Thing<u64>, _>| result.err();
        assert_eq!(said(travel(&thing::<u8>(&region))), Some(HandleError::Unknown));
        assert_eq!(said(travel(&region)), Some(HandleError::Unknown));
        assert_eq!(said(travel(&0_u32)), Some(HandleError::Unknown));
    }

    #[test]
    fn a_file_that_is_no_region_is_refused() {
        let (reader, _writer) = io::pipe().unwrap();
        let said = travel::<_, Region>(&Descriptor(reader.into()));
        assert_eq!(said.err(), Some(HandleError::Unknown), "another type");
        let (reader, _writer) = io::pipe().unwrap();
        assert!(matches!(Region::attach(reader.into()), Err(HandleError::Os { call: "fstat", .. })));
    }

    #[test]
    fn a_handle_travels_nowhere_else() {
        let region = Region::anonymous(4096).unwrap();
        assert!(postcard::to_stdvec(&region).is_err());
        assert_eq!(take_refusal(), Some(HandleError::Elsewhere));
        assert!(postcard::from_bytes::<Region>(&[0]).is_err());
        assert_eq!(take_refusal(), Some(HandleError::Elsewhere));
        assert_eq!(take_refusal(), None);
    }
}
