//! Compressed bodies, `gzip` and `deflate` (which means zlib), both ways.

use std::io::{Read, Write};

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use super::error::ApiError;

/// Shorter answers fit into one packet either way.
const WORTH_IT: usize = 1024;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, which HTTP calls deflate.
    Deflate,
}

impl Codec {
    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Deflate => "deflate",
        }
    }

    fn named(name: &str) -> Option<Codec> {
        [Codec::Gzip, Codec::Deflate].into_iter().find(|codec| name.eq_ignore_ascii_case(codec.name()))
    }

    /// What a request's body is packed with.
    ///
    /// # Errors
    /// 415, with what is understood, for anything else.
    pub fn of_body(request: &HttpRequest) -> Result<Option<Codec>, ApiError> {
        let Some(value) = request.headers().get(CONTENT_ENCODING) else { return Ok(None) };
        let name = value.to_str().unwrap_or("?").trim();
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            return Ok(None);
        }
        Codec::named(name).map(Some).ok_or_else(|| ApiError::encoding(name))
    }

    /// What the answer may be packed with, by the client's preference; gzip where it has none.
    pub fn wanted(request: &HttpRequest) -> Option<Codec> {
        let accepted = request.headers().get(ACCEPT_ENCODING)?.to_str().ok()?;
        let choices = accepted.split(',').filter_map(|choice| {
            let (name, quality) = choice.split_once(';').map_or((choice, 1.0), |(name, rest)| (name, quality(rest)));
            Some((Codec::named(name.trim())?, quality)).filter(|(_, quality)| *quality > 0.0)
        });
        choices.reduce(|best, next| if next.1 > best.1 || next.1 == best.1 && next.0 == Codec::Gzip { next } else { best }).map(|(c, _)| c)
    }

    /// Unpacks a body; nothing beyond `limit` is ever held.
    ///
    /// # Errors
    /// `None` = beyond the limit; else one line.
    pub fn unpack(self, packed: &[u8], limit: usize) -> Result<Bytes, Option<String>> {
        let mut plain = Vec::new();
        let bound = limit as u64 + 1;
        let read = match self {
            Codec::Gzip => MultiGzDecoder::new(packed).take(bound).read_to_end(&mut plain),
            Codec::Deflate => ZlibDecoder::new(packed).take(bound).read_to_end(&mut plain),
        };
        read.map_err(|e| Some(format!("the body is no {}: {e}", self.name())))?;
        if plain.len() > limit { Err(None) } else { Ok(plain.into()) }
    }

    /// Packs an answer; `None` when that would not make it shorter.
    pub fn pack(self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() < WORTH_IT {
            return None;
        }
        let out = Vec::with_capacity(plain.len() / 2);
        let packed = match self {
            Codec::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Codec::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
        };
        // Writing into a `Vec` cannot fail.
        packed.ok().filter(|packed| packed.len() < plain.len())
    }
}

/// `q=0.5` of a choice; 1 where it says nothing, 0 where it makes no sense.
fn quality(parameters: &str) -> f32 {
    let value = parameters.split(';').find_map(|p| p.trim().strip_prefix("q="));
    value.map_or(1.0, |value| value.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn wanted(accept: &str) -> Option<Codec> {
        Codec::wanted(&TestRequest::get().insert_header(("accept-encoding", accept)).to_http_request())
    }

    #[test]
    fn the_client_chooses_how_the_answer_is_packed() {
        assert_eq!(wanted("gzip"), Some(Codec::Gzip));
        assert_eq!(wanted("deflate, gzip"), Some(Codec::Gzip));
        assert_eq!(wanted("deflate;q=0.9, gzip;q=0.5"), Some(Codec::Deflate));
        assert_eq!(wanted("br, gzip;q=0"), None);
        assert_eq!(wanted("identity"), None);
    }

    #[test]
    fn what_is_packed_is_unpacked_and_never_beyond_the_limit() {
        let plain = vec![7u8; 1 << 20];
        for codec in [Codec::Gzip, Codec::Deflate] {
            let packed = codec.pack(&plain).unwrap();
            assert!(packed.len() < 1 << 14);
            assert_eq!(codec.unpack(&packed, plain.len()).unwrap(), plain);
            assert_eq!(codec.unpack(&packed, plain.len() - 1), Err(None));
            assert!(codec.unpack(&packed[..packed.len() / 2], plain.len()).is_err());
            assert!(matches!(codec.unpack(b"nonsense", 99), Err(Some(line)) if line.starts_with("the body is no ")));
        }
        assert_eq!(Codec::Gzip.pack(b"short"), None);
    }
}
