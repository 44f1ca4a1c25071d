//! JSON arrays, flat or nested, parsed straight into raw little-endian tensors.
//!
//! Nothing is allocated per element, and counts are checked against the shape while parsing, so that a body cannot make the
//! server hold more than the model's largest batch.

use std::fmt;

use migrator_models::Datatype;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};

/// Memory set aside for what a shape announces before that much has come, bytes.
const TRUSTED: usize = 4 << 20;

/// Takes the elements of one tensor.
pub(super) struct Sink<'p> {
    datatype: Datatype,
    shape: &'p [u64],
    total: usize,
    /// Elements taken so far.
    pub seen: usize,
    /// Whether what is wrong is the number or nesting of the elements, not one of them.
    pub misshapen: bool,
    /// The raw tensor.
    pub out: Vec<u8>,
}

impl<'p> Sink<'p> {
    /// A sink for a tensor of this shape, which the caller has checked against the model's.
    pub fn new(datatype: Datatype, shape: &'p [u64]) -> Sink<'p> {
        let total = shape.iter().product::<u64>() as usize;
        let bytes = total.saturating_mul(datatype.size().unwrap_or(32));
        Sink { datatype, shape, total, seen: 0, misshapen: false, out: Vec::with_capacity(bytes.min(TRUSTED)) }
    }

    /// Whether all elements have come.
    pub fn is_full(&self) -> bool {
        self.seen == self.total
    }

    /// `64 elements (shape [1, 64])`.
    pub fn wanted(&self) -> String {
        format!("{} element{} (shape {:?})", self.total, if self.total == 1 { "" } else { "s" }, self.shape)
    }

    fn push<E: de::Error>(&mut self, element: Element<'_>) -> Result<(), E> {
        if self.seen == self.total {
            self.misshapen = true;
            return Err(E::custom(format_args!("more than {}", self.wanted())));
        }
        match encode(self.datatype, element, &mut self.out) {
            Ok(()) => {
                self.seen += 1;
                Ok(())
            }
            Err(Refused::Type) => Err(E::custom(format_args!("expected {}, got {element}", expected(self.datatype)))),
            Err(Refused::Range) => Err(E::custom(format_args!("{element} does not fit {}", self.datatype.name()))),
        }
    }
}

/// A JSON value that is not an array.
#[derive(Clone, Copy)]
enum Element<'v> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(&'v str),
    Null,
    Object,
}

enum Refused {
    Type,
    Range,
}

fn encode(datatype: Datatype, element: Element<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
    use Element::{Bool, Float, Signed, Text, Unsigned};
    match (datatype, element) {
        (Datatype::Fp32, Float(v)) => {
            let narrow = v as f32;
            if !narrow.is_finite() {
                return Err(Refused::Range);
            }
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        (Datatype::Fp32, Unsigned(v)) => out.extend_from_slice(&(v as f32).to_le_bytes()),
        (Datatype::Fp32, Signed(v)) => out.extend_from_slice(&(v as f32).to_le_bytes()),
        (Datatype::Fp64, Float(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Datatype::Fp64, Unsigned(v)) => out.extend_from_slice(&(v as f64).to_le_bytes()),
        (Datatype::Fp64, Signed(v)) => out.extend_from_slice(&(v as f64).to_le_bytes()),
        (Datatype::Int32, Unsigned(v)) => out.extend_from_slice(&i32::try_from(v).map_err(|_| Refused::Range)?.to_le_bytes()),
        (Datatype::Int32, Signed(v)) => out.extend_from_slice(&i32::try_from(v).map_err(|_| Refused::Range)?.to_le_bytes()),
        (Datatype::Int64, Unsigned(v)) => out.extend_from_slice(&i64::try_from(v).map_err(|_| Refused::Range)?.to_le_bytes()),
        (Datatype::Int64, Signed(v)) => out.extend_from_slice(&v.to_le_bytes()),
        (Datatype::Uint8, Unsigned(v)) => out.push(u8::try_from(v).map_err(|_| Refused::Range)?),
        (Datatype::Uint8, Signed(_)) => return Err(Refused::Range),
        (Datatype::Bool, Bool(v)) => out.push(u8::from(v)),
        (Datatype::Bytes, Text(v)) => {
            let length = u32::try_from(v.len()).map_err(|_| Refused::Range)?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(v.as_bytes());
        }
        _ => return Err(Refused::Type),
    }
    Ok(())
}

fn expected(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "true or false",
        Datatype::Uint8 | Datatype::Int32 | Datatype::Int64 => "an integer",
        Datatype::Fp32 | Datatype::Fp64 => "a number",
        Datatype::Bytes => "a string",
    }
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Unsigned(v) => write!(f, "{v}"),
            Element::Signed(v) => write!(f, "{v}"),
            Element::Float(v) => write!(f, "{v:?}"),
            Element::Bool(v) => write!(f, "{v}"),
            Element::Text(v) => match v.char_indices().nth(20) {
                Some((cut, _)) => write!(f, "the string {:?}…", &v[..cut]),
                None => write!(f, "the string {v:?}"),
            },
            Element::Null => f.write_str("null"),
            Element::Object => f.write_str("an object"),
        }
    }
}

/// What a value turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One element.
    Element,
    /// An array of elements or arrays.
    Array,
}

/// A value at this depth of nesting: an element or an array.
pub(super) struct Value<'s, 'p> {
    /// Where the elements go.
    pub sink: &'s mut Sink<'p>,
    /// Arrays around it; 0 = it is the whole of `data`.
    pub depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = Form;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Form, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Value<'_, '_> {
    fn element<E: de::Error>(self, element: Element<'_>) -> Result<Form, E> {
        self.sink.push(element).map(|()| Form::Element)
    }

    /// Checks an array of `n` items; flat data is an array of elements at depth 0, whatever the shape.
    fn close<E: de::Error>(&self, n: usize, items: Option<Form>) -> Result<Form, E> {
        let shape = self.sink.shape;
        if self.depth == 0 && items != Some(Form::Array) {
            return if n == self.sink.total {
                Ok(Form::Array)
            } else {
                Err(E::custom(format_args!("{n} elements instead of {}", self.sink.wanted())))
            };
        }
        match shape.get(self.depth) {
            None => Err(E::custom(format_args!("nested deeper than shape {shape:?}"))),
            Some(&size) if size != n as u64 => {
                Err(E::custom(format_args!("an array of {n} where dimension {} of shape {shape:?} has {size}", self.depth)))
            }
            Some(_) if items == Some(Form::Element) && self.depth + 1 != shape.len() => {
                Err(E::custom(format_args!("nested less deeply than shape {shape:?}")))
            }
            Some(_) => Ok(Form::Array),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = Form;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or an array", expected(self.sink.datatype))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Form, A::Error> {
        let (mut n, mut items) = (0usize, None);
        while let Some(form) = seq.next_element_seed(Value { sink: &mut *self.sink, depth: self.depth + 1 })? {
            if items.is_some_and(|other| other != form) {
                self.sink.misshapen = true;
                return Err(de::Error::custom("mixes elements and arrays"));
            }
            items = Some(form);
            n += 1;
        }
        let closed = self.close(n, items);
        self.sink.misshapen |= closed.is_err();
        closed
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Form, E> {
        self.element(Element::Unsigned(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Form, E> {
        self.element(Element::Signed(v))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Form, E> {
        self.element(Element::Float(v))
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Form, E> {
        self.element(Element::Bool(v))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Form, E> {
        self.element(Element::Text(v))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Form, E> {
        self.element(Element::Null)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _map: A) -> Result<Form, A::Error> {
        self.element(Element::Object)
    }
}
