//! The server's certificate: read from files, or made for the occasion.

use std::{fs, path::PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::options::Options;

/// Where the certificate comes from, now and at each reload.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Files { cert: PathBuf, key: PathBuf },
    SelfSigned { names: Vec<String>, save: Option<PathBuf> },
}

#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Source {
    pub(crate) fn of(options: &Options) -> Self {
        if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
            return Self::Files { cert: cert.clone(), key: key.clone() };
        }
        let listen = options.address().ip().to_string();
        let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        if !names.contains(&listen) {
            names.push(listen);
        }
        Self::SelfSigned { names, save: options.save_cert.clone() }
    }

    pub(crate) fn load(&self) -> Result<Certificate, String> {
        match self {
            Self::Files { cert, key } => from_files(cert, key),
            Self::SelfSigned { names, save } => self_signed(names, save.as_ref()),
        }
    }

    /// What a certificate of this source is, in a sentence about it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Files { cert, .. } => format!("the certificate of {}", cert.display()),
            Self::SelfSigned { .. } => "a new self-signed certificate".to_owned(),
        }
    }
}

fn from_files(cert: &PathBuf, key: &PathBuf) -> Result<Certificate, String> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("cannot read certificates from {}: {error}", cert.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", cert.display()));
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("cannot read a private key from {}: {error}", key.display()))?;
    Ok(Certificate { chain, key })
}

fn self_signed(names: &[String], save: Option<&PathBuf>) -> Result<Certificate, String> {
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| format!("cannot make a certificate: {error}"))?;
    if let Some(path) = save {
        fs::write(path, made.cert.pem())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    Ok(Certificate { chain: vec![made.cert.der().clone()], key })
}
