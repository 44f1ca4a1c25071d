//! TorchScript files: loading, and saying what is wrong with one that is none.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tch::{CModule, Device};

use crate::TorchError;
use crate::error::of_libtorch;
use crate::weights;

/// How `torch.save` began before PyTorch 1.6: a pickled number, 0x1950a86a20f9469cfc6c.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const PICKLED: &str = "written by torch.save (a state dict or pickled module), not TorchScript";
const EXPORT: &str = "export it again with torch.jit.save from PyTorch 1.4 or newer";

/// Loads `model.pt` in evaluation mode. Unlike a module that is moved afterwards, its constants are on the device too.
pub(crate) fn load(path: &Path, device: Device) -> Result<CModule, TorchError> {
    diagnose(path)?;
    let module = CModule::load_on_device(path, device);
    checked(module.map_err(|error| failed(path, &error.to_string()))?, path)
}

/// Loads a module from what [`to_bytes`] gave.
pub(crate) fn from_bytes(mut bytes: &[u8], path: &Path, device: Device) -> Result<CModule, TorchError> {
    let module = CModule::load_data_on_device(&mut bytes, device);
    checked(module.map_err(|error| failed(path, &error.to_string()))?, path)
}

/// The module as the bytes of a `model.pt`, through the file `scratch`, which is gone afterwards.
pub(crate) fn to_bytes(module: &CModule, scratch: &Path) -> Result<Vec<u8>, TorchError> {
    let bytes =
        module.save(scratch).map_err(TorchError::from).and_then(|()| std::fs::read(scratch).map_err(|e| TorchError::io(scratch, &e)));
    let _ = std::fs::remove_file(scratch);
    bytes
}

fn checked(mut module: CModule, path: &Path) -> Result<CModule, TorchError> {
    module.f_set_eval()?;
    for (name, tensor) in module.named_parameters()? {
        if !weights::is_finite(&tensor)? {
            return Err(bad(path, &format!("parameter {name} holds NaN or infinity; a model must be finite")));
        }
    }
    Ok(module)
}

fn failed(path: &Path, text: &str) -> TorchError {
    match of_libtorch(text) {
        TorchError::Torch(line) => bad(path, &format!("libtorch cannot load it ({line}); {EXPORT}")),
        memory => memory,
    }
}

/// Looks at the names in the zip archive before libtorch does, whose own messages say little.
fn diagnose(path: &Path) -> Result<(), TorchError> {
    let names = match directory(path) {
        Ok(Some(names)) => names,
        Ok(None) if begins(path, LEGACY) => return Err(bad(path, &format!("{PICKLED}; {EXPORT}"))),
        Ok(None) => return Err(bad(path, &format!("not a TorchScript file (no complete zip archive); {EXPORT}"))),
        Err(error) => return Err(bad(path, &format!("it cannot be read ({error})"))),
    };
    let has = |name: &[u8]| names.windows(name.len()).any(|window| window == name);
    if has(b"/constants.pkl") {
        Ok(())
    } else if has(b"model.json") {
        Err(bad(path, &format!("TorchScript of PyTorch before 1.4, which libtorch 2.11 cannot read; {EXPORT}")))
    } else if has(b"/data.pkl") {
        Err(bad(path, &format!("{PICKLED}; {EXPORT}")))
    } else {
        Err(bad(path, &format!("a zip archive without TorchScript; {EXPORT}")))
    }
}

fn begins(path: &Path, magic: &[u8]) -> bool {
    let mut found = vec![0; magic.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut found)).is_ok() && found == magic
}

/// The central directory of a zip archive, in which all names occur in clear text; `None` when there is no complete archive.
fn directory(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    // The end record is 22 bytes plus a comment, which torch never writes.
    const END: usize = 22;
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let tail = size.min(1 << 22);
    file.seek(SeekFrom::Start(size - tail))?;
    let mut bytes = Vec::with_capacity(tail as usize);
    file.read_to_end(&mut bytes)?;
    let Some(end) = bytes.len().checked_sub(END).filter(|&end| bytes[end..].starts_with(b"PK\x05\x06")) else { return Ok(None) };
    let start = u64::from(u32::from_le_bytes([bytes[end + 16], bytes[end + 17], bytes[end + 18], bytes[end + 19]]));
    // A directory that begins before the tail (or is zip64's) is cut short: the other entries are enough to tell the kinds apart.
    let begins = usize::try_from(start.saturating_sub(size - tail)).unwrap_or(end);
    Ok(Some(bytes[if begins < end { begins } else { 0 }..end].to_vec()))
}

fn bad(path: &Path, reason: &str) -> TorchError {
    TorchError::BadModel(format!("{}: {reason}", path.display()))
}
