//! A folder with one folder per class: images (PNG, JPEG), or texts.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader};

use super::error::ReadError;
use super::label::label;
use super::rows::Rows;
use super::set::{Features, Row};

/// Extensions of images.
const IMAGES: [&str; 3] = ["png", "jpg", "jpeg"];

/// Longest text, bytes: what is longer is no sample.
const LONGEST_TEXT: u64 = 16 << 20;

/// What images become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    /// Channels: 1 (grey) or 3 (red, green, blue).
    pub channels: u32,
    /// Height that they are resized to, pixels; their proportions are not kept.
    pub height: u32,
    /// Width that they are resized to, pixels.
    pub width: u32,
}

/// Whether the files of a folder of folders are images, as far as the first one tells.
pub(super) fn holds_images(path: &Path) -> bool {
    let first = Classes::open(path, &[]).ok().and_then(|classes| classes.folders.into_iter().find_map(|(_, files)| files.front().cloned()));
    first.is_some_and(|file| is_image(&file))
}

/// Reads images as channels × height × width, each pixel divided by `most`. Classes are the folders: by their place in `names`, by their own number
/// where all are numbers, else in the order of their names. A file of each class in turn.
///
/// # Errors
/// [`ReadError`] with the folder; each file that is no image is a row that cannot be read.
pub fn read_images(path: &Path, names: &[String], picture: Picture, most: f32) -> Result<Rows, ReadError> {
    if !matches!(picture.channels, 1 | 3) {
        return Err(ReadError::whole(path, format!("images for {} channels", picture.channels), "a model of 1 or 3 channels"));
    }
    read(path, names, move |file| image(file, picture, most).map(Features::Numbers))
}

/// Reads texts, one a file, UTF-8 or else Latin-1; classes as in [`read_images`].
///
/// # Errors
/// [`ReadError`] with the folder; each file that is no text is a row that cannot be read.
pub fn read_texts(path: &Path, names: &[String]) -> Result<Rows, ReadError> {
    read(path, names, |file| text(file).map(Features::Text))
}

fn read(path: &Path, names: &[String], features: impl Fn(&Path) -> Result<Features, ReadError> + 'static) -> Result<Rows, ReadError> {
    let classes = Classes::open(path, names)?;
    let (total, names) = (classes.folders.iter().map(|(_, files)| files.len() as u64).sum(), classes.names.clone());
    let rows = classes.map(move |(label, file)| Ok(Row { features: features(&file)?, label }));
    Ok(Rows::new(Some(total), rows).with_names(names))
}

/// Files by class, one of each class in turn.
struct Classes {
    folders: VecDeque<(u32, VecDeque<PathBuf>)>,
    names: Vec<String>,
}

impl Classes {
    fn open(path: &Path, names: &[String]) -> Result<Classes, ReadError> {
        let (folders, _) = entries(path)?;
        let own: Vec<String> = folders.iter().filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())).collect();
        let numbers = names.is_empty() && own.iter().all(|name| label(name, &[]).is_ok());
        let known = if names.is_empty() && !numbers { &own } else { names };
        let mut classes = VecDeque::new();
        for folder in folders {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let class = label(name, known).map_err(|(_, expected)| ReadError::whole(&folder, "a folder of no class", expected))?;
            let (_, files) = entries(&folder)?;
            if !files.is_empty() {
                classes.push_back((class, files.into()));
            }
        }
        if classes.is_empty() {
            return Err(ReadError::whole(path, "holds no folders with files", "one folder per class, with a file per sample"));
        }
        Ok(Classes { folders: classes, names: known.to_vec() })
    }
}

impl Iterator for Classes {
    type Item = (u32, PathBuf);

    fn next(&mut self) -> Option<Self::Item> {
        let (class, mut files) = self.folders.pop_front()?;
        let file = files.pop_front()?;
        if !files.is_empty() {
            self.folders.push_back((class, files));
        }
        Some((class, file))
    }
}

/// Folders and files, by name; hidden ones left out.
fn entries(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ReadError> {
    let io = |source| ReadError::io(path, source);
    let mut all: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            all.push(entry.path());
        }
    }
    all.sort();
    Ok(all.into_iter().partition(|path| path.is_dir()))
}

fn is_image(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    IMAGES.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn image(file: &Path, picture: Picture, most: f32) -> Result<Vec<f32>, ReadError> {
    let expected = "a PNG or JPEG image";
    if !is_image(file) {
        return Err(ReadError::whole(file, "is no image by its name", expected));
    }
    let opened = ImageReader::open(file).and_then(ImageReader::with_guessed_format).map_err(|source| ReadError::io(file, source))?;
    let decoded = opened.decode().map_err(|error| ReadError::whole(file, format!("cannot be decoded ({error})"), expected))?;
    let Picture { channels, height, width } = picture;
    let fits = (decoded.height(), decoded.width()) == (height, width);
    let resized: DynamicImage = if fits { decoded } else { decoded.resize_exact(width, height, FilterType::Triangle) };
    let interleaved = if channels == 1 { resized.to_luma8().into_raw() } else { resized.to_rgb8().into_raw() };
    // Models take one channel after the other.
    let channel = |channel: usize| interleaved.iter().skip(channel).step_by(channels as usize).map(|pixel| f32::from(*pixel) / most);
    Ok((0..channels as usize).flat_map(channel).collect())
}

fn text(file: &Path) -> Result<String, ReadError> {
    let io = |source| ReadError::io(file, source);
    let length = file.metadata().map_err(io)?.len();
    if length > LONGEST_TEXT {
        return Err(ReadError::whole(file, format!("has {length} bytes"), format!("a text of at most {LONGEST_TEXT} bytes")));
    }
    let bytes = std::fs::read(file).map_err(io)?;
    if bytes.contains(&0) {
        return Err(ReadError::whole(file, "holds a zero byte", "a text"));
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect()))
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    const PICTURE: Picture = Picture { channels: 3, height: 2, width: 2 };

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn labels(rows: Rows) -> Vec<u32> {
        rows.map(|row| row.unwrap().label).collect()
    }

    #[test]
    fn texts_come_class_by_class_in_turn() {
        let folder = folder(&[("b/1", b"one"), ("b/2", b"two"), ("b/3", b"3"), ("a/x", b"caf\xe9"), ("a/.hidden", b""), ("README", b"")]);
        let rows = read_texts(folder.path(), &[]).unwrap();
        assert_eq!((rows.total, &rows.names[..]), (Some(4), &["a".to_owned(), "b".to_owned()][..]));
        let rows: Vec<Row> = rows.map(Result::unwrap).collect();
        assert_eq!(rows[0], Row { features: Features::Text("café".into()), label: 0 });
        assert_eq!(rows.iter().map(|row| row.label).collect::<Vec<_>>(), [0, 1, 1, 1]);
    }

    #[test]
    fn folders_are_classes_by_number_by_name_or_as_told() {
        let numbered = folder(&[("7/x", b"seven"), ("10/x", b"ten")]);
        assert_eq!(labels(read_texts(numbered.path(), &[]).unwrap()), [10, 7]);
        let named = folder(&[("cat/x", b"1"), ("dog/x", b"2")]);
        let names = ["dog".to_owned(), "bird".to_owned(), "cat".to_owned()];
        assert_eq!(labels(read_texts(named.path(), &names).unwrap()), [2, 0]);
        let wrong = read_texts(named.path(), &names[..2]).unwrap_err().to_string();
        assert!(wrong.ends_with("cat: a folder of no class; expected one of dog, bird"), "{wrong}");
        let empty = read_texts(folder(&[("a", b"a file")]).path(), &[]).unwrap_err().to_string();
        assert!(empty.contains("holds no folders with files; expected one folder per class"), "{empty}");
        assert!(read_texts(Path::new("/nowhere"), &[]).unwrap_err().to_string().starts_with("/nowhere: cannot be read"));
    }

    #[test]
    fn images_are_resized_and_come_channel_by_channel() {
        let folder = folder(&[("0/a", b""), ("1/a", b"")]);
        let mut image = RgbImage::from_pixel(2, 2, Rgb([255, 0, 51]));
        image.put_pixel(1, 0, Rgb([0, 255, 51]));
        std::fs::remove_file(folder.path().join("0/a")).unwrap();
        image.save(folder.path().join("0/a.png")).unwrap();
        RgbImage::from_pixel(9, 5, Rgb([200, 200, 200])).save(folder.path().join("1/b.jpg")).unwrap();
        std::fs::write(folder.path().join("1/c.png"), b"no image").unwrap();
        assert!(holds_images(folder.path()));
        let rows: Vec<_> = read_images(folder.path(), &[], PICTURE, 255.0).unwrap().collect();
        let expected = vec![1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.2, 0.2, 0.2];
        assert_eq!(rows[0].as_ref().unwrap(), &Row { features: Features::Numbers(expected), label: 0 });
        let wrong: Vec<String> = rows.iter().filter_map(|row| row.as_ref().err().map(ToString::to_string)).collect();
        assert!(wrong[0].ends_with("1/a: is no image by its name; expected a PNG or JPEG image"), "{wrong:?}");
        assert!(wrong[1].contains("1/c.png: cannot be decoded"), "{wrong:?}");
        let grey = Picture { channels: 1, height: 1, width: 1 };
        let rows: Vec<Row> = read_images(folder.path(), &[], grey, 1.0).unwrap().filter_map(Result::ok).collect();
        let Features::Numbers(pixel) = &rows[1].features else { panic!("numbers") };
        assert!((pixel[0] - 200.0).abs() <= 2.0, "{pixel:?}");
        let channels = read_images(folder.path(), &[], Picture { channels: 4, ..grey }, 1.0).unwrap_err().to_string();
        assert!(channels.contains("a model of 1 or 3 channels"), "{channels}");
    }
}
