//! Lines of a text file that are not blank, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::error::ReadError;

/// Lines, counted from 1.
pub(super) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    line: usize,
    offset: u64,
    over: bool,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Lines, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::io(path, source))?;
        Ok(Lines { path: path.to_owned(), file: BufReader::with_capacity(1 << 16, file), line: 0, offset: 0, over: false })
    }

    fn read(&mut self) -> Result<Option<String>, ReadError> {
        let mut bytes = Vec::new();
        let read = self.file.read_until(b'\n', &mut bytes).map_err(|source| ReadError::io(&self.path, source))?;
        if read == 0 {
            return Ok(None);
        }
        let start = self.offset;
        self.offset += read as u64;
        self.line += 1;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = start + e.utf8_error().valid_up_to() as u64;
            ReadError::at_byte(&self.path, at, "is not UTF-8", "a text file; `.bin` files are read as CIFAR-10 binary")
        })?;
        Ok(Some(text))
    }
}

impl Iterator for Lines {
    type Item = Result<(usize, String), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            match self.read() {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => return Some(Ok((self.line, line))),
                Ok(None) => self.over = true,
                Err(error) => {
                    // What is no text at all has no lines to go on with.
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
