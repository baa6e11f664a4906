#ifndef WEIGHTD_H_
#define WEIGHTD_H_

/* Maps models that this node's weightd holds, without copying them:
 *
 *   weightd_model* model = NULL;
 *   weightd_error* error = weightd_attach("https://models.example/llama/", NULL, &model);
 *   if (error != NULL) {
 *     fprintf(stderr, "%s (%s)\n", weightd_error_message(error), weightd_error_hint(error));
 *     weightd_error_free(error);
 *     return 1;
 *   }
 *   weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
 *   error = weightd_model_tensor(model, "lm_head.weight", &tensor);
 *   ...
 *   weightd_model_release(model);
 *
 * Errors. What can fail returns NULL, or an error that the caller frees; outputs are then left as
 * they were. Arguments that must not be NULL give an error where they are. No C++ exception leaves
 * the library.
 * Ownership. Whatever a model or an error gives is theirs, and ends with them. Strings that go in
 * are read during the call only.
 * Threads. All functions may be called from any thread, also for one model at once; only
 * weightd_model_release and weightd_error_free must be the last use of what they get.
 * Forks. A child may read host models that its parent attached and release its copies. The lease
 * stays the parent's: where a child may outlive it, let the child attach, and not the parent. Of
 * models on a GPU a child may only release its copies, which does nothing.
 * Units. Sizes are bytes, shapes and strides elements. Strings are UTF-8 and end with a NUL; a name
 * that has one inside, as a file may, can't be told whole.
 * Growth. Structs begin with their size, which the caller sets (the INIT macros do): fields are
 * only ever added at the end, functions only added. See weightd_abi_version. */

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define WEIGHTD_API __attribute__((visibility("default")))
#else
#define WEIGHTD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The ABI that this header describes, and that of the library in use, which is no smaller if it has
 * all that is declared here. */
#define WEIGHTD_ABI_VERSION 2
WEIGHTD_API uint32_t weightd_abi_version(void);
/* The release, such as "0.1.0". */
WEIGHTD_API const char* weightd_version(void);

/* Why a call failed. Of NULL all its strings are "". */
typedef struct weightd_error weightd_error;

/* Stable, for programs: a name of ErrorReason in proto/weightd/v1/error.proto, such as
 * "MODEL_NOT_FOUND", "DAEMON_UNREACHABLE", "DEADLINE" or "INVALID_ARGUMENT". */
WEIGHTD_API const char* weightd_error_reason(const weightd_error* error);
/* What happened, to which model or file. */
WEIGHTD_API const char* weightd_error_message(const weightd_error* error);
/* The model as it was asked for, or "". */
WEIGHTD_API const char* weightd_error_model(const weightd_error* error);
/* What to do, or "". */
WEIGHTD_API const char* weightd_error_hint(const weightd_error* error);
/* NULL is nothing to free. */
WEIGHTD_API void weightd_error_free(weightd_error* error);

/* A file that must have this SHA-256 (64 hexadecimal digits). `file` is relative to the model's
 * folder; "" is the model's only file. */
typedef struct weightd_pin {
  const char* file;
  const char* sha256;
} weightd_pin;

typedef enum weightd_place {
  WEIGHTD_HOST = 0,
  /* The one copy that is on the GPU, read-only: a write to it is a fatal GPU fault of this process,
   * after which each of its CUDA calls fails. */
  WEIGHTD_GPU_SHARED = 1,
  /* GPU memory of this process's own, which the daemon fills: may be written to. */
  WEIGHTD_GPU_PRIVATE = 2
} weightd_place;

/* Called in the attaching thread while a model loads. `phase` is a name of LoadPhase in
 * proto/weightd/v1/weights.proto without its prefix ("QUEUED", "TRANSFERRING", ...);
 * `bytes_total` is 0 until it is known. Must return: no exception, no longjmp. */
typedef void (*weightd_progress)(const char* phase, uint64_t bytes_done, uint64_t bytes_total,
                                 void* context);

/* How to attach. All that is 0 or NULL means the default. */
typedef struct weightd_options {
  size_t size; /* sizeof(weightd_options) */
  /* Folder of the daemon's sockets. NULL: the environment variable WEIGHTD_DIR, then
   * /run/weightd. */
  const char* socket_dir;
  /* Only this revision (64 hexadecimal digits, or a prefix of at least 8). NULL: the current one.
   */
  const char* revision;
  /* Refuses other bytes (VERIFICATION_FAILED), also of a model that was on the node before. */
  const weightd_pin* pins;
  size_t pin_count;
  /* Of the whole attach, a load included; 0: one hour. DEADLINE afterwards. */
  int64_t timeout_milliseconds;
  weightd_progress progress;
  void* progress_context;
  /* The GPU by what nvidia-smi -L prints ("GPU-..." or "MIG-..."). NULL: by gpu_ordinal, as this
   * process's CUDA counts (torch's "cuda:1" is 1). The CUDA driver is loaded by the first attach to
   * a GPU, and never for WEIGHTD_HOST. */
  const char* gpu_uuid;
  /* The driver's library, for dlopen. NULL: libcuda.so.1. */
  const char* cuda_driver;
  int32_t gpu_ordinal;
  int32_t place; /* a weightd_place */
  /* Not 0: fail (MODEL_NOT_RESIDENT) instead of loading what is not on the node. */
  int32_t resident_only;
  /* Not 0: host memory that can't be written to. Otherwise a write makes a page of this process's
   * own, which nobody else sees. */
  int32_t read_only;
} weightd_options;

#define WEIGHTD_OPTIONS_INIT \
  {sizeof(weightd_options), NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0}

/* A model mapped into this process, and the lease that keeps it on the node. */
typedef struct weightd_model weightd_model;

/* `model` is a URI (file:///..., http(s)://..., s3://..., hf://...), an absolute path, or an alias
 * of the daemon's config. `options` may be NULL. Waits until the model is loaded. */
WEIGHTD_API weightd_error* weightd_attach(const char* model, const weightd_options* options,
                                          weightd_model** attached);
/* Unmaps and ends the lease (which waits up to a second for a daemon that is slow). No pointer that
 * the model gave may be used any more. NULL is nothing to release. */
WEIGHTD_API void weightd_model_release(weightd_model* model);

/* As the daemon prints it: credentials and query redacted. These and the next are "", NULL or 0 of
 * NULL. */
WEIGHTD_API const char* weightd_model_uri(const weightd_model* model);
/* 64 hexadecimal digits. */
WEIGHTD_API const char* weightd_model_revision(const weightd_model* model);
/* UUID of the GPU that it is on ("GPU-..."); NULL: it is in host memory. */
WEIGHTD_API const char* weightd_model_gpu(const weightd_model* model);
/* Whether writes are allowed: 0 too where the kernel refused a private mapping. */
WEIGHTD_API int weightd_model_writable(const weightd_model* model);
/* The whole mapping: first byte (a CUdeviceptr on a GPU) and length. */
WEIGHTD_API void* weightd_model_data(const weightd_model* model);
WEIGHTD_API uint64_t weightd_model_nbytes(const weightd_model* model);

typedef struct weightd_tensor {
  size_t size; /* sizeof(weightd_tensor) */
  const char* name;
  const char* dtype;      /* safetensors' name: "F32", "BF16", "F8_E4M3", ... and "C32", "C128" */
  const char* torch_type; /* torch's name of a type that dtype can't tell; else NULL */
  const char* alias_of;   /* tied weights: the name that the bytes are stored under; else NULL */
  const uint64_t* shape;  /* `rank` extents, outermost first */
  const int64_t* strides; /* `rank` steps; NULL: C-contiguous */
  size_t rank;            /* 0: a scalar */
  uint64_t nbytes;
  void* data; /* on a GPU a CUdeviceptr, which the CPU can't read; not to be read if nbytes is 0 */
} weightd_tensor;

#define WEIGHTD_TENSOR_INIT {sizeof(weightd_tensor), NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL}

/* Tensors are ordered by name; tied weights are there under each of their names. The first of these
 * calls reads the model's index (MALFORMED_MODEL if it is broken). */
WEIGHTD_API weightd_error* weightd_model_tensor_count(const weightd_model* model, size_t* count);
/* INVALID_ARGUMENT beyond the last. */
WEIGHTD_API weightd_error* weightd_model_tensor_at(const weightd_model* model, size_t number,
                                                   weightd_tensor* tensor);
/* TENSOR_NOT_FOUND if there is none. */
WEIGHTD_API weightd_error* weightd_model_tensor(const weightd_model* model, const char* name,
                                                weightd_tensor* tensor);

/* Free text of the files (`__metadata__` in safetensors), ordered by key. */
WEIGHTD_API weightd_error* weightd_model_metadata_count(const weightd_model* model, size_t* count);
WEIGHTD_API weightd_error* weightd_model_metadata_at(const weightd_model* model, size_t number,
                                                     const char** key, const char** value);

/* What lies beside the weights of a model that is a folder: its config, its tokenizer and the like,
 * in host memory also where the model is on a GPU. */
typedef struct weightd_file {
  size_t size;       /* sizeof(weightd_file) */
  const char* name;  /* its path in the model's folder, such as "config.json" */
  const char* bytes; /* `nbytes` of them, which no NUL ends; not to be read if nbytes is 0 */
  uint64_t nbytes;
} weightd_file;

#define WEIGHTD_FILE_INIT {sizeof(weightd_file), NULL, NULL, 0}

/* Files are ordered by name; those that the daemon leaves out are not among them. A model that is
 * one weight file has none. */
WEIGHTD_API weightd_error* weightd_model_file_count(const weightd_model* model, size_t* count);
/* INVALID_ARGUMENT beyond the last. */
WEIGHTD_API weightd_error* weightd_model_file_at(const weightd_model* model, size_t number,
                                                 weightd_file* file);
/* FILE_NOT_FOUND if there is none, or if the daemon leaves it out: the message says why. */
WEIGHTD_API weightd_error* weightd_model_file(const weightd_model* model, const char* name,
                                              weightd_file* file);

#ifdef __cplusplus
}
#endif

#endif /* WEIGHTD_H_ */
