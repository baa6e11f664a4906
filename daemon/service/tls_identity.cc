#include "daemon/service/tls_identity.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "common/utf8.h"

namespace weightd::service {
namespace {

// Longer names are cut where they are shown.
constexpr size_t kLongestShown = 256;
// TLS' name of HTTP/2 (RFC 7301, section 3.1: a length and the name).
constexpr unsigned char kHttp2[] = {2, 'h', '2'};

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Free<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, Free<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Free<GENERAL_NAMES_free>>;

BioPtr Reading(absl::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::Status Bad(absl::string_view file, absl::string_view what, absl::string_view hint) {
  ERR_clear_error();
  return Error(Reason::kInvalidArgument, absl::StrCat(file, ": ", what), hint);
}

// Nobody is asked for the password of a key.
int NoPassword(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) { return 0; }

std::vector<X509Ptr> CertificatesIn(absl::string_view text) {
  std::vector<X509Ptr> certificates;
  const BioPtr bio = Reading(text);
  while (X509* const one = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(one);
  }
  ERR_clear_error();
  return certificates;
}

// Empty for what has a NUL, as only a forged name does.
std::string TextOf(const ASN1_STRING* text) {
  const std::string bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                          static_cast<size_t>(ASN1_STRING_length(text)));
  return bytes.find('\0') == std::string::npos ? bytes : "";
}

std::string SubjectOf(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return ToUtf8(absl::string_view(data, std::min(static_cast<size_t>(size), kLongestShown)));
}

absl::Time TimeOf(const ASN1_TIME* time) {
  tm utc = {};
  ASN1_TIME_to_tm(time, &utc);
  return absl::FromTM(utc, absl::UTCTimeZone());
}

std::string TextOf(absl::Time time) {
  return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone());
}

int ChooseHttp2(SSL* /*ssl*/, const unsigned char** chosen, unsigned char* chosen_size,
                const unsigned char* offered, unsigned int offered_size, void* /*data*/) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, chosen_size, kHttp2, sizeof(kHttp2), offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

absl::Status UseCertificate(SSL_CTX* context, const TlsFiles& files, const TlsTexts& texts,
                            const std::vector<X509Ptr>& chain) {
  if (chain.empty()) {
    return Bad(files.certificate, "no certificate in PEM", "give the certificate's file");
  }
  if (SSL_CTX_use_certificate(context, chain[0].get()) != 1) {
    return Bad(files.certificate, "the certificate can't be used", "give another one");
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    SSL_CTX_add1_chain_cert(context, chain[i].get());
  }
  const KeyPtr key(PEM_read_bio_PrivateKey(Reading(texts.key).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    return Bad(files.key, "no key in PEM, or one with a password", "give a key without a password");
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return Bad(files.key, absl::StrCat("not the key of the certificate in ", files.certificate),
               "give the two that belong together");
  }
  return absl::OkStatus();
}

absl::Status TrustAuthorities(SSL_CTX* context, const TlsFiles& files, const TlsTexts& texts) {
  const std::vector<X509Ptr> authorities = CertificatesIn(texts.client_authorities);
  if (authorities.empty()) {
    return Bad(files.client_authorities, "no certificate in PEM",
               "give the file of the authorities of operators' certificates");
  }
  for (const X509Ptr& authority : authorities) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get());
    SSL_CTX_add_client_CA(context, authority.get());
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> NamesOf(X509* certificate) {
  std::vector<std::string> names;
  const auto add = [&names](const ASN1_STRING* text) {
    if (std::string name = TextOf(text); !name.empty()) {
      names.push_back(std::move(name));
    }
  };
  const NamesPtr alternative(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(alternative.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(alternative.get(), i);
    if (name->type == GEN_DNS || name->type == GEN_URI) {
      add(name->type == GEN_DNS ? name->d.dNSName : name->d.uniformResourceIdentifier);
    }
  }
  if (names.empty()) {
    X509_NAME* const subject = X509_get_subject_name(certificate);
    const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index >= 0) {
      add(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    }
  }
  return names;
}

absl::StatusOr<std::shared_ptr<const TlsIdentity>> TlsIdentity::Make(const TlsFiles& files,
                                                                     const TlsTexts& texts,
                                                                     std::vector<Pattern> allowed) {
  std::shared_ptr<TlsIdentity> identity(new TlsIdentity());
  identity->allowed_ = std::move(allowed);
  identity->context_.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* const context = identity->context_.get();
  if (context == nullptr) {
    return Error(Reason::kHostMemoryShort, "OpenSSL could not make a context");
  }
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  // A session that is resumed would not be held against authorities that changed meanwhile.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_alpn_select_cb(context, ChooseHttp2, nullptr);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, Verify);
  SSL_CTX_set_app_data(context, identity.get());
  const std::vector<X509Ptr> chain = CertificatesIn(texts.certificate);
  RETURN_IF_ERROR(UseCertificate(context, files, texts, chain));
  RETURN_IF_ERROR(TrustAuthorities(context, files, texts));
  identity->subject_ = SubjectOf(chain[0].get());
  identity->file_ = files.certificate;
  identity->begins_ = TimeOf(X509_get0_notBefore(chain[0].get()));
  identity->expires_ = TimeOf(X509_get0_notAfter(chain[0].get()));
  return identity;
}

absl::Status TlsIdentity::ValidAt(absl::Time now) const {
  if (now < begins_) {
    return Bad(file_, absl::StrCat("the certificate is not valid before ", TextOf(begins_)),
               "see whether the clock is right");
  }
  if (now >= expires_) {
    return Bad(file_, absl::StrCat("the certificate expired at ", TextOf(expires_)),
               "give a new one");
  }
  return absl::OkStatus();
}

SslPtr TlsIdentity::Accept(int socket, std::string* refusal) const {
  SslPtr ssl(SSL_new(context_.get()));
  if (ssl == nullptr || SSL_set_fd(ssl.get(), socket) != 1) {
    return nullptr;
  }
  SSL_set_app_data(ssl.get(), refusal);
  SSL_set_accept_state(ssl.get());
  return ssl;
}

// Called by OpenSSL for each certificate of the peer's chain, its own the last.
int TlsIdentity::Verify(int verified, X509_STORE_CTX* chain) {
  const auto* const ssl = static_cast<const SSL*>(
      X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* const refusal = static_cast<std::string*>(SSL_get_app_data(ssl));
  X509* const certificate = X509_STORE_CTX_get_current_cert(chain);
  if (verified != 1) {
    *refusal = absl::StrCat(
        "its certificate ",
        certificate == nullptr ? "" : absl::StrCat("(", SubjectOf(certificate), ") "),
        "is refused: ", X509_verify_cert_error_string(X509_STORE_CTX_get_error(chain)));
    return 0;
  }
  if (X509_STORE_CTX_get_error_depth(chain) > 0) {
    return 1;
  }
  const auto* const identity =
      static_cast<const TlsIdentity*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (identity->AllowedNameOf(certificate).empty()) {
    const std::string names = absl::StrJoin(NamesOf(certificate), ", ");
    *refusal = names.empty()
                   ? "its certificate has no name"
                   : absl::StrCat("no name of its certificate is allowed: ",
                                  ToUtf8(absl::string_view(names).substr(0, kLongestShown)));
    X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
  }
  return 1;
}

std::string TlsIdentity::AllowedNameOf(X509* certificate) const {
  for (const std::string& name : NamesOf(certificate)) {
    if (allowed_.empty() ||
        std::any_of(allowed_.begin(), allowed_.end(),
                    [&name](const Pattern& pattern) { return pattern.Matches(name); })) {
      return ToUtf8(absl::string_view(name).substr(0, kLongestShown));
    }
  }
  return "";
}

std::string TlsIdentity::NameOfPeer(const SSL* ssl) const {
  X509* const certificate = SSL_get0_peer_certificate(ssl);
  return certificate == nullptr ? "" : AllowedNameOf(certificate);
}

}  // namespace weightd::service
