/* Prints what a model holds, a line for each tensor (name, type, shape, bytes and their CRC-32) and
 * for each file beside the weights, such as config.json (name, bytes, CRC-32).
 *   checksums MODEL [SOCKET_FOLDER] */

#include <inttypes.h>
#include <stdio.h>
#include <weightd.h>

static uint32_t crc32_of(const unsigned char* bytes, uint64_t count) {
  uint32_t table[256];
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t entry = i;
    for (int bit = 0; bit < 8; ++bit) {
      entry = (entry >> 1) ^ ((entry & 1) ? 0xEDB88320u : 0);
    }
    table[i] = entry;
  }
  uint32_t crc = 0xFFFFFFFFu;
  for (uint64_t i = 0; i < count; ++i) {
    crc = table[(crc ^ bytes[i]) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

static int failed(weightd_error* error) {
  if (error == NULL) {
    return 0;
  }
  fprintf(stderr, "%s: %s\n", weightd_error_reason(error), weightd_error_message(error));
  if (weightd_error_hint(error)[0] != '\0') {
    fprintf(stderr, "(%s)\n", weightd_error_hint(error));
  }
  weightd_error_free(error);
  return 1;
}

static int print_tensors(const weightd_model* model) {
  size_t count = 0;
  if (failed(weightd_model_tensor_count(model, &count))) {
    return 1;
  }
  for (size_t i = 0; i < count; ++i) {
    weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
    if (failed(weightd_model_tensor_at(model, i, &tensor))) {
      return 1;
    }
    printf("%s %s [", tensor.name, tensor.dtype);
    for (size_t axis = 0; axis < tensor.rank; ++axis) {
      printf(axis == 0 ? "%" PRIu64 : ",%" PRIu64, tensor.shape[axis]);
    }
    const uint32_t crc = crc32_of((const unsigned char*)tensor.data, tensor.nbytes);
    printf("] %" PRIu64 " %08" PRIx32 "\n", tensor.nbytes, crc);
  }
  return 0;
}

static int print_files(const weightd_model* model) {
  size_t count = 0;
  if (failed(weightd_model_file_count(model, &count))) {
    return 1;
  }
  for (size_t i = 0; i < count; ++i) {
    weightd_file file = WEIGHTD_FILE_INIT;
    if (failed(weightd_model_file_at(model, i, &file))) {
      return 1;
    }
    const uint32_t crc = crc32_of((const unsigned char*)file.bytes, file.nbytes);
    printf("%s %" PRIu64 " %08" PRIx32 "\n", file.name, file.nbytes, crc);
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: %s MODEL [SOCKET_FOLDER]\n", argv[0]);
    return 64;
  }
  weightd_options options = WEIGHTD_OPTIONS_INIT;
  options.socket_dir = argc > 2 ? argv[2] : NULL;
  weightd_model* model = NULL;
  if (failed(weightd_attach(argv[1], &options, &model))) {
    return 1;
  }
  const int result = print_tensors(model) || print_files(model);
  weightd_model_release(model);
  return result;
}
