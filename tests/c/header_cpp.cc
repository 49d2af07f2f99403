// Promise: the header stands alone, twice, in every C++ from C++11 on, without a warning, and its functions link as C.
#include <p2pmount.h>
#include <p2pmount.h>

static_assert(sizeof(p2p_error) == 1024, "p2p_error has a frozen size");
static_assert(sizeof(p2p_node) == 8, "handles have 64 bits");
static_assert(P2P_OK == 0, "success is 0");

int main() {
    p2p_error error;
    p2p_options options = 0;
    return p2p_options_new(&options, &error) == P2P_OK && p2p_options_free(options) == P2P_OK ? 0 : 1;
}
