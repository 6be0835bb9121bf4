//! How a file is packed, by its name or its begin.

use std::fmt;

use url::Url;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// xz, with LZMA2.
    Xz,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

impl Compression {
    /// By the ending of a URL's path: `.xz`, `.zst`, `.zstd`, `.gz`.
    #[must_use]
    pub fn of_url(url: &Url) -> Self {
        let ending = url.path().rsplit('/').next().and_then(|file| file.rsplit_once('.'));
        match ending.map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
            Some("xz") => Self::Xz,
            Some("zst" | "zstd") => Self::Zstd,
            Some("gz") => Self::Gzip,
            _ => Self::None,
        }
    }

    /// By what a file begins with: the formats' specifications give these marks.
    #[must_use]
    pub const fn of_start(start: &[u8]) -> Self {
        match start {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no compression",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_url_says_how_the_file_is_packed() {
        for (url, compression) in [
            ("https://a.example/b.qcow2", Compression::None),
            ("https://a.example/b.qcow2.xz", Compression::Xz),
            ("https://a.example/b.raw.ZST?c=d.gz", Compression::Zstd),
            ("https://a.example/b.img.gz#x.xz", Compression::Gzip),
            ("https://a.example/c.xz/b", Compression::None),
            ("https://a.example/", Compression::None),
        ] {
            assert_eq!(Compression::of_url(&Url::parse(url).unwrap()), compression, "{url}");
        }
    }
}
