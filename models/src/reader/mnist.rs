//! MNIST's IDX: a file of images and one of labels, each a magic number, sizes (big-endian) and bytes; also packed with gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::error::ReadError;
use super::rows::Rows;
use super::set::{Features, Row};

/// Two zeros, the type of the elements (8 = unsigned bytes), the number of dimensions.
const IMAGES: [u8; 4] = [0, 0, 8, 3];
const LABELS: [u8; 4] = [0, 0, 8, 1];

/// Reads images and labels; pixels are divided by `most` (255 makes 0–1 of them). Without `labels`, the file of labels is the one whose name has
/// `labels-idx1` where the images' has `images-idx3`.
///
/// # Errors
/// [`ReadError`] with file and byte.
pub fn read_mnist(images: &Path, labels: Option<&Path>, most: f32) -> Result<Rows, ReadError> {
    let labels = match labels {
        Some(labels) => labels.to_owned(),
        None => sibling(images).ok_or_else(|| {
            let what = "it is not told which file has the labels";
            ReadError::at_byte(images, 0, what, "--labels FILE, or names with `images` and `labels`, as in train-images-idx3-ubyte")
        })?,
    };
    let (mut images, mut labels) = (Idx::open(images, IMAGES)?, Idx::open(&labels, LABELS)?);
    let [count, height, width] = [images.size()?, images.size()?, images.size()?];
    let labelled = labels.size()?;
    if count != labelled {
        let what = format!("there are {labelled} labels");
        return Err(ReadError::at_byte(&labels.path, 4, what, format!("{count}, as many as images in {}", images.path.display())));
    }
    let pixels = (height as usize).saturating_mul(width as usize);
    if count == 0 || pixels == 0 || pixels > 1 << 24 {
        return Err(ReadError::at_byte(&images.path, 4, format!("{count} images of {height}×{width}"), "images"));
    }
    let mut over = false;
    let rows = (0..count).map_while(move |_| {
        if over {
            return None;
        }
        let row = images.bytes(pixels).and_then(|image| Ok((image, labels.bytes(1)?[0])));
        // A file that is cut off has nothing after the cut.
        over = row.is_err();
        let number = |pixel: &u8| f32::from(*pixel) / most;
        Some(row.map(|(image, label)| Row { features: Features::Numbers(image.iter().map(number).collect()), label: u32::from(label) }))
    });
    Ok(Rows::new(Some(u64::from(count)), rows))
}

fn sibling(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    (labels != name).then(|| images.with_file_name(labels))
}

struct Idx {
    path: PathBuf,
    file: Box<dyn Read>,
    offset: u64,
}

impl Idx {
    fn open(path: &Path, magic: [u8; 4]) -> Result<Idx, ReadError> {
        let file = BufReader::new(File::open(path).map_err(|source| ReadError::io(path, source))?);
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        let file: Box<dyn Read> = if packed { Box::new(BufReader::new(GzDecoder::new(file))) } else { Box::new(file) };
        let mut idx = Idx { path: path.to_owned(), file, offset: 0 };
        let found = idx.bytes(4)?;
        if found != magic {
            let kind = if magic == IMAGES { "images (3 dimensions)" } else { "labels (1 dimension)" };
            let expected = format!("{magic:?}: IDX of unsigned bytes, {kind}");
            return Err(ReadError::at_byte(path, 0, format!("begins with {found:?}"), expected));
        }
        Ok(idx)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                ReadError::at_byte(&self.path, self.offset, "the file ends here", format!("{count} more bytes"))
            }
            _ => ReadError::io(&self.path, error),
        })?;
        self.offset += count as u64;
        Ok(bytes)
    }

    fn size(&mut self) -> Result<u32, ReadError> {
        let bytes = self.bytes(4)?;
        Ok(bytes.iter().fold(0, |size, byte| size << 8 | u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn idx(magic: [u8; 4], sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
        [&magic[..], &sizes, bytes].concat()
    }

    fn pair(images: &[u8], labels: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t10k-images-idx3-ubyte");
        std::fs::write(&path, images).unwrap();
        std::fs::write(folder.path().join("t10k-labels-idx1-ubyte"), labels).unwrap();
        (folder, path)
    }

    fn error(images: &[u8], labels: &[u8]) -> String {
        let (_folder, path) = pair(images, labels);
        read_mnist(&path, None, 255.0).and_then(Rows::collect_set).unwrap_err().to_string()
    }

    #[test]
    fn images_and_labels_come_together_packed_or_not() {
        let images = idx(IMAGES, &[2, 1, 2], &[0, 255, 51, 102]);
        let (folder, path) = pair(&images, &idx(LABELS, &[2], &[7, 3]));
        let set = read_mnist(&path, None, 255.0).unwrap().collect_set().unwrap();
        assert_eq!(set.rows[0], Row { features: Features::Numbers(vec![0.0, 1.0]), label: 7 });
        assert_eq!(set.rows[1].features, Features::Numbers(vec![0.2, 0.4]));
        let packed = folder.path().join("x.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
        encoder.write_all(&images).unwrap();
        encoder.finish().unwrap();
        let labels = folder.path().join("t10k-labels-idx1-ubyte");
        assert_eq!(read_mnist(&packed, Some(&labels), 255.0).unwrap().collect_set().unwrap(), set);
        assert!(read_mnist(&packed, None, 255.0).unwrap_err().to_string().contains("expected --labels FILE"));
    }

    #[test]
    fn what_is_wrong_is_placed() {
        let (images, labels) = (idx(IMAGES, &[2, 1, 2], &[0, 255, 51, 102]), idx(LABELS, &[2], &[7, 3]));
        assert!(error(&labels, &labels).contains("images-idx3-ubyte: byte 0: begins with [0, 0, 8, 1]; expected [0, 0, 8, 3]"));
        assert!(error(&images, &idx(LABELS, &[3], &[1, 2, 3])).contains("labels-idx1-ubyte: byte 4: there are 3 labels; expected 2"));
        assert!(error(&images[..18], &labels).contains("byte 18: the file ends here; expected 2 more bytes"));
        assert!(error(&images[..2], &labels).contains("byte 0: the file ends here; expected 4 more bytes"));
        assert!(error(&idx(IMAGES, &[0, 1, 2], &[]), &idx(LABELS, &[0], &[])).contains("0 images of 1×2"));
    }
}
