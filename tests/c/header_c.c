/* Promise: the header stands alone, twice, in every C from C99 on, without a warning. */
#include <p2pmount.h>
#include "p2pmount.h"

#define SAME(name, condition) typedef char name[(condition) ? 1 : -1]

SAME(error_has_1024_bytes, sizeof(p2p_error) == 1024);
SAME(sentence_has_1008_bytes, sizeof(((p2p_error *)0)->message) == 1008);
SAME(handles_have_8_bytes, sizeof(p2p_node) == 8 && sizeof(p2p_operation) == 8);
SAME(status_has_4_bytes, sizeof(p2p_status) == 4);
SAME(number_of_the_version,
     P2P_VERSION_NUMBER == P2P_VERSION_MAJOR * 10000 + P2P_VERSION_MINOR * 100 + P2P_VERSION_PATCH);

#if P2P_VERSION_NUMBER < 100 || P2P_ABI_VERSION < 0 || P2P_OK != 0 || P2P_ERROR_INTERNAL != 21
#error "a macro of the header is not what it was"
#endif

int main(void) {
    p2p_error error;
    p2p_options options = 0;
    return p2p_options_new(&options, &error) == P2P_OK && p2p_options_free(options) == P2P_OK ? 0 : 1;
}
