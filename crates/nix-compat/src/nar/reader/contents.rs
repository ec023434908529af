use std::io::{self, BufRead, Read};

use super::{Error, ErrorKind, NarReader, State, fill};

/// The contents of a file within a NAR.
///
/// To be read with [`Read`] or [`BufRead`], or without detours by [`next_chunk`](Self::next_chunk). Input
/// that ends early is an error ([`io::ErrorKind::UnexpectedEof`]), never a short file. The archive is
/// known to be well-formed only when the reader has come to its end.
#[derive(Debug)]
pub struct FileContents<'a, R> {
    pub(super) reader: &'a mut NarReader<R>,
}

impl<R: BufRead> FileContents<'_, R> {
    /// The size of the whole file as the archive claims it. Do not allocate by it.
    pub fn size(&self) -> u64 {
        match self.reader.state {
            State::Contents { size, .. } => size,
            _ => 0,
        }
    }

    /// How many bytes are left to be read.
    pub fn remaining(&self) -> u64 {
        match self.reader.state {
            State::Contents { remaining, .. } => remaining,
            _ => 0,
        }
    }

    /// The next bytes, as many as are buffered; empty at the file's end. To be followed by
    /// [`BufRead::consume`].
    pub fn next_chunk(&mut self) -> Result<&[u8], Error> {
        let remaining = match self.reader.state {
            State::Contents { remaining, .. } => remaining,
            State::Failed => {
                return Err(Error {
                    offset: self.reader.offset,
                    kind: ErrorKind::FailedBefore,
                });
            }
            _ => 0,
        };
        if remaining == 0 {
            return Ok(&[]);
        }
        let available = match fill(&mut self.reader.inner) {
            Ok(buf) => buf.len(),
            Err(error) => return Err(self.reader.fail(ErrorKind::Io(error))),
        };
        if available == 0 {
            return Err(self.reader.fail(ErrorKind::Truncated));
        }
        let len =
            usize::try_from(remaining).map_or(available, |remaining| remaining.min(available));
        let offset = self.reader.offset;
        let buf = fill(&mut self.reader.inner).map_err(|error| Error {
            offset,
            kind: ErrorKind::Io(error),
        })?;
        Ok(buf.get(..len).unwrap_or(buf))
    }
}

impl<R: BufRead> Read for FileContents<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let len = chunk.len().min(out.len());
        if let (Some(out), Some(chunk)) = (out.get_mut(..len), chunk.get(..len)) {
            out.copy_from_slice(chunk);
        }
        self.consume(len);
        Ok(len)
    }
}

impl<R: BufRead> BufRead for FileContents<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.next_chunk().map_err(|error| match error.kind {
            ErrorKind::Truncated => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            ErrorKind::Io(ref source) => io::Error::new(source.kind(), error),
            _ => io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }

    fn consume(&mut self, amount: usize) {
        if let State::Contents { remaining, .. } = &mut self.reader.state {
            let amount =
                usize::try_from(*remaining).map_or(amount, |remaining| remaining.min(amount));
            *remaining -= amount as u64;
            self.reader.inner.consume(amount);
            self.reader.offset += amount as u64;
        }
    }
}
