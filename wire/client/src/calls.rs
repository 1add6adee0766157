//! The calls that both faces offer, written once: results and sinks around the core's operations.

use std::io::IoSliceMut;

use crate::core::{Core, Question};
use crate::error::Error;
use crate::mode::Mode;
use crate::options::{GetOptions, SetOptions, Version};
use crate::sink::{BufferSink, ScatterSink, VecSink};
use crate::view::View;

impl Core {
    pub(crate) async fn set_one(
        &self,
        mode: Mode,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
    ) -> Result<Version, Error> {
        let mut out = [Ok(Version::default())];
        self.write(mode, &[(key, value)], options, &mut out).await;
        let [result] = out;
        result
    }

    pub(crate) async fn set_many(
        &self,
        mode: Mode,
        items: &[(&[u8], &[u8])],
        options: &SetOptions,
    ) -> Vec<Result<Version, Error>> {
        let mut out = vec![Ok(Version::default()); items.len()];
        self.write(mode, items, options, &mut out).await;
        out
    }

    pub(crate) async fn get_one(
        &self,
        mode: Mode,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut slot = [None];
        let mut sink = VecSink::new(&mut slot);
        let mut out = [Ok(None)];
        if let Some(result) = self.read_here(key, options, &mut sink) {
            out = [result];
        } else {
            self.read(mode, &[key], options, &mut sink, &mut out).await;
        }
        let [result] = out;
        let [value] = slot;
        result.map(|found| found.and(value))
    }

    pub(crate) async fn get_one_into(
        &self,
        mode: Mode,
        key: &[u8],
        buffer: &mut [u8],
        options: &GetOptions,
    ) -> Result<Option<usize>, Error> {
        let mut buffers = [buffer];
        let mut sink = BufferSink::new(&mut buffers);
        if let Some(result) = self.read_here(key, options, &mut sink) {
            return result;
        }
        let mut out = [Ok(None)];
        self.read(mode, &[key], options, &mut sink, &mut out).await;
        let [result] = out;
        result
    }

    pub(crate) async fn get_scattered(
        &self,
        mode: Mode,
        key: &[u8],
        buffers: &mut [IoSliceMut<'_>],
    ) -> Result<Option<usize>, Error> {
        let mut out = [Ok(None)];
        let mut sink = ScatterSink::new(buffers);
        self.read(mode, &[key], &GetOptions::default(), &mut sink, &mut out)
            .await;
        let [result] = out;
        result
    }

    pub(crate) async fn get_many(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<Vec<u8>>, Error>> {
        let mut values = vec![None; keys.len()];
        let mut out = vec![Ok(None); keys.len()];
        self.read(
            mode,
            keys,
            options,
            &mut VecSink::new(&mut values),
            &mut out,
        )
        .await;
        out.into_iter()
            .zip(values)
            .map(|(result, value)| result.map(|found| found.and(value)))
            .collect()
    }

    pub(crate) async fn get_many_into(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        buffers: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        assert_eq!(keys.len(), buffers.len(), "one buffer per key");
        let mut out = vec![Ok(None); keys.len()];
        let mut sink = BufferSink::new(buffers);
        self.read(mode, keys, &GetOptions::default(), &mut sink, &mut out)
            .await;
        out
    }

    pub(crate) async fn view_one(
        &self,
        mode: Mode,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<Option<View>, Error> {
        if let Some(result) = self.view_here(key, options) {
            return result;
        }
        self.view_one_asked(mode, key, options).await
    }

    /// [`Self::view_one`] of a key that the index was asked about before.
    pub(crate) async fn view_one_asked(
        &self,
        mode: Mode,
        key: &[u8],
        options: &GetOptions,
    ) -> Result<Option<View>, Error> {
        let mut out = [Ok(None)];
        self.view(mode, &[key], options, &mut out).await;
        let [result] = out;
        result
    }

    pub(crate) async fn view_many(
        &self,
        mode: Mode,
        keys: &[&[u8]],
        options: &GetOptions,
    ) -> Vec<Result<Option<View>, Error>> {
        let mut out = Vec::new();
        out.resize_with(keys.len(), || Ok(None));
        self.view(mode, keys, options, &mut out).await;
        out
    }

    pub(crate) async fn ask_one(
        &self,
        mode: Mode,
        question: Question,
        key: &[u8],
    ) -> Result<Option<u64>, Error> {
        if let Some(result) = self.ask_here(question, key) {
            return result;
        }
        self.ask_one_asked(mode, question, key).await
    }

    /// [`Self::ask_one`] of a key that the index was asked about before.
    pub(crate) async fn ask_one_asked(
        &self,
        mode: Mode,
        question: Question,
        key: &[u8],
    ) -> Result<Option<u64>, Error> {
        let mut out = [Ok(None)];
        self.ask(mode, question, &[key], &mut out).await;
        let [result] = out;
        result
    }

    pub(crate) async fn ask_many(
        &self,
        mode: Mode,
        question: Question,
        keys: &[&[u8]],
    ) -> Vec<Result<Option<u64>, Error>> {
        let mut out = vec![Ok(None); keys.len()];
        self.ask(mode, question, keys, &mut out).await;
        out
    }
}

/// Whether each key had a value.
pub(crate) fn found(answers: Vec<Result<Option<u64>, Error>>) -> Vec<Result<bool, Error>> {
    answers
        .into_iter()
        .map(|answer| answer.map(|found| found.is_some()))
        .collect()
}
