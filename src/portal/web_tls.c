/* The certificate that browsers see; see web_tls.h. */
#include "portal/web_tls.h"

#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "core/addr.h"
#include "io/own_file.h"
#include "io/statedir.h"
#include "portal/portal_config.h"
#include "portal/rooms.h"

enum {
    PEM_MAX = 64 * 1024,
    SELF_SIGNED_S = 397 * 24 * 3600, /* browsers refuse more than 398 days */
    SERIAL_LEN = 16,
};

/* Closes `fd`, which may be negative. */
static char *read_all(int fd)
{
    char *text = NULL;
    ssize_t n = -1;
    if (fd >= 0) {
        text = malloc(PEM_MAX);
        n = text != NULL ? read(fd, text, PEM_MAX - 1) : -1;
        close(fd);
    }
    if (n <= 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

/* One that a person named: it may be a link. */
static char *read_file(const char *path)
{
    return read_all(open(path, O_RDONLY | O_CLOEXEC));
}

static int write_file(const char *path, const gnutls_datum_t *d)
{
    (void)unlink(path); /* a new file: nobody else's, by no link, with our mode */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return POSTERN_ERR_IO;
    bool whole = write(fd, d->data, d->size) == (ssize_t)d->size && fsync(fd) == 0;
    close(fd);
    return whole ? 0 : POSTERN_ERR_IO;
}

static void own_path(const struct rooms *rs, const char *file, char path[static 4096])
{
    (void)snprintf(path, 4096, "%s/%s", rs->config->state_dir, file);
}

/* The portal's name, and the names of services below its domain. */
static int set_names(const struct rooms *rs, gnutls_x509_crt_t crt)
{
    struct addr a;
    char star[300];
    int rc;
    if (addr_parse_ip(&a, rs->place.name) == 0)
        rc = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, a.ip,
                                                  (unsigned)addr_ip_len(&a),
                                                  GNUTLS_FSAN_SET);
    else
        rc = gnutls_x509_crt_set_subject_alt_name(
            crt, GNUTLS_SAN_DNSNAME, rs->place.name, (unsigned)strlen(rs->place.name),
            GNUTLS_FSAN_SET);
    if (rc == 0 && rs->place.domain[0] != '\0' &&
        strcmp(rs->place.domain, rs->place.name) != 0) {
        (void)snprintf(star, sizeof(star), "%s", rs->place.domain);
        rc = gnutls_x509_crt_set_subject_alt_name(
            crt, GNUTLS_SAN_DNSNAME, star, (unsigned)strlen(star), GNUTLS_FSAN_APPEND);
    }
    return rc;
}

static int sign(const struct rooms *rs, gnutls_x509_crt_t crt,
                gnutls_x509_privkey_t key)
{
    uint8_t serial[SERIAL_LEN];
    time_t now = (time_t)statedir_now_s();
    const char *name = rs->place.name;
    randombytes_buf(serial, sizeof(serial));
    serial[0] &= 0x7f; /* RFC 5280 section 4.1.2.2: positive */
    int rc = gnutls_x509_crt_set_version(crt, 3);
    if (rc == 0)
        rc = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    if (rc == 0)
        rc = gnutls_x509_crt_set_activation_time(crt, now - 3600);
    if (rc == 0)
        rc = gnutls_x509_crt_set_expiration_time(crt, now + SELF_SIGNED_S);
    if (rc == 0)
        rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                           (unsigned)strnlen(name, 64));
    if (rc == 0)
        rc = set_names(rs, crt);
    if (rc == 0)
        rc = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key(crt, key);
    return rc == 0 ? gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) : rc;
}

static int make_self_signed(const struct rooms *rs, const char *crt_path,
                            const char *key_path)
{
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t crt_pem = {0}, key_pem = {0};
    int rc = gnutls_x509_crt_init(&crt);
    if (rc == 0)
        rc = gnutls_x509_privkey_init(&key);
    if (rc == 0)
        rc = gnutls_x509_privkey_generate(
            key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (rc == 0)
        rc = sign(rs, crt, key);
    if (rc == 0)
        rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &crt_pem);
    if (rc == 0)
        rc = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL,
                                               GNUTLS_PKCS_PLAIN, &key_pem);
    if (rc == 0)
        rc = write_file(key_path, &key_pem);
    if (rc == 0)
        rc = write_file(crt_path, &crt_pem);
    if (key_pem.data != NULL)
        sodium_memzero(key_pem.data, key_pem.size);
    gnutls_free(key_pem.data);
    gnutls_free(crt_pem.data);
    gnutls_x509_privkey_deinit(key);
    if (crt != NULL)
        gnutls_x509_crt_deinit(crt);
    return rc == 0 ? 0 : POSTERN_ERR_IO;
}

/* Still good for a day, and for the name in use? */
static bool is_usable(const struct rooms *rs, const char *pem)
{
    gnutls_x509_crt_t crt;
    gnutls_datum_t d = {.size = (unsigned)strlen(pem)};
    if (gnutls_x509_crt_init(&crt) != 0)
        return false;
    d.data = gnutls_malloc(d.size + 1);
    bool usable = false;
    if (d.data != NULL) {
        memcpy(d.data, pem, d.size + 1);
        usable = gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_PEM) == 0 &&
                 gnutls_x509_crt_get_expiration_time(crt) >
                     (time_t)statedir_now_s() + 24 * 3600 &&
                 gnutls_x509_crt_check_hostname(crt, rs->place.name) != 0;
    }
    gnutls_free(d.data);
    gnutls_x509_crt_deinit(crt);
    return usable;
}

bool web_own_fingerprint(const struct rooms *rs, char out[static WEB_FINGERPRINT_LEN])
{
    char path[4096];
    uint8_t hash[32];
    size_t len = sizeof(hash);
    gnutls_x509_crt_t crt = NULL;
    if (rs->config->certificate != NULL)
        return false;
    own_path(rs, "portal-cert.pem", path);
    char *pem = read_all(own_file_read(rs->config->state_dir, path));
    gnutls_datum_t d = {.data = (void *)pem,
                        .size = pem != NULL ? (unsigned)strlen(pem) : 0};
    bool read =
        pem != NULL && gnutls_x509_crt_init(&crt) == 0 &&
        gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_PEM) == 0 &&
        gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, hash, &len) == 0;
    if (crt != NULL)
        gnutls_x509_crt_deinit(crt);
    free(pem);
    for (size_t i = 0; read && i < sizeof(hash); i++)
        (void)snprintf(out + 3 * i, 4, "%02X%s", hash[i],
                       i + 1 < sizeof(hash) ? ":" : "");
    return read;
}

static int self_signed(const struct rooms *rs, char **certificate, char **key,
                       struct fault *f)
{
    char crt_path[4096], key_path[4096];
    own_path(rs, "portal-cert.pem", crt_path);
    own_path(rs, "portal-key.pem", key_path);
    for (int attempt = 0; attempt < 2; attempt++) {
        *certificate = read_all(own_file_read(rs->config->state_dir, crt_path));
        *key = read_all(own_file_read(rs->config->state_dir, key_path));
        if (*certificate != NULL && *key != NULL && is_usable(rs, *certificate))
            return 0;
        free(*certificate);
        free(*key);
        *certificate = *key = NULL;
        if (attempt == 0 && make_self_signed(rs, crt_path, key_path) != 0)
            break;
    }
    return fault_set(f, POSTERN_ERR_IO, "check the state directory",
                     "no certificate for the portal could be made");
}

static int web_certificate(const struct rooms *rs, char **certificate, char **key,
                           struct fault *f)
{
    *certificate = *key = NULL;
    if (rs->config->certificate == NULL)
        return self_signed(rs, certificate, key, f);
    *certificate = read_file(rs->config->certificate);
    *key =
        read_file(rs->config->key != NULL ? rs->config->key : rs->config->certificate);
    if (*certificate != NULL && *key != NULL)
        return 0;
    const char *missing = *certificate == NULL || rs->config->key == NULL
                              ? rs->config->certificate
                              : rs->config->key;
    free(*certificate);
    free(*key);
    *certificate = *key = NULL;
    return fault_set(f, POSTERN_ERR_NOTFOUND, "check its path and its rights",
                     "cannot read '%.200s'", missing);
}

int web_credentials(const struct rooms *rs, gnutls_certificate_credentials_t *out,
                    struct fault *f)
{
    char *certificate = NULL, *key = NULL;
    gnutls_certificate_credentials_t c = NULL;
    int rc = web_certificate(rs, &certificate, &key, f);
    *out = NULL;
    if (rc != 0 || certificate == NULL || key == NULL)
        return rc;
    gnutls_datum_t crt_pem = {(unsigned char *)certificate,
                              (unsigned)strlen(certificate)};
    gnutls_datum_t key_pem = {(unsigned char *)key, (unsigned)strlen(key)};
    if (gnutls_certificate_allocate_credentials(&c) != 0 ||
        gnutls_certificate_set_x509_key_mem(c, &crt_pem, &key_pem,
                                            GNUTLS_X509_FMT_PEM) < 0)
        rc = fault_set(f, POSTERN_ERR_KEY,
                       "check that certificate and key are PEM and belong together",
                       "the portal's certificate cannot be used");
    if (rc == 0)
        *out = c;
    else if (c != NULL)
        gnutls_certificate_free_credentials(c);
    sodium_memzero(key, strlen(key));
    free(key);
    free(certificate);
    return rc;
}

uint64_t web_certificate_version(const struct rooms *rs)
{
    const char *files[] = {rs->config->certificate, rs->config->key};
    uint64_t version = 0;
    struct stat st;
    for (size_t i = 0; i < 2; i++)
        if (files[i] != NULL && stat(files[i], &st) == 0)
            version = version * 31 + (uint64_t)st.st_mtim.tv_sec * 1000 +
                      (uint64_t)st.st_mtim.tv_nsec / 1000000 + (uint64_t)st.st_ino;
    return version;
}
