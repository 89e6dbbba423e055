#pragma once
// ImageFetcher: brings an object whose interface extends Mobile into this domain, code and state.
//
// The code is read over the connection, shown to the domain's policy, and loaded (object_image.h);
// then the service gives the object away (Mobile::leave), and it is made again here. From then on
// the service is not needed for it, and its death does no harm. Until the state has been given away
// any failure leaves the object where it is.
//
// The service is not trusted to keep to the protocol: sizes and pieces are checked. Its code, once
// accepted, is trusted like the domain's own: it runs with all its rights. So the policy is asked
// with the whole image, and there is none that accepts by default.
// Source: PEG94 "Naming and Invocation": a maillon's first use may fetch the object.

#include <cstddef>
#include <span>

#include "domains/names/service.h"
#include "domains/services/object_image.h"

namespace nemesis::services {

/// Whether this image may run in this domain, as part of it.
struct FetchPolicy {
    bool (*accepts)(void* self, std::span<std::byte const> image) = nullptr;
    void* self = nullptr;
};

/// Fetches one object. owner: outlives the handle that uses it, and all calls
class ImageFetcher final : public name_service::ObjectFetcher {
public:
    explicit ImageFetcher(FetchPolicy policy) : policy_(policy) {}

    /// errors: Refused (the policy, or the object is not mobile: it is called where it is),
    /// BadMessage (the service breaks the protocol, or the image is malformed), NoMemory,
    /// NoSuchObject (it has been fetched before), and those of calls
    Result<void*, invocation::Failure> fetch(invocation::CallClient& client,
                                             invocation::InterfaceInfo const& info,
                                             Instant until) override;

private:
    Result<void*, invocation::Failure> load_and_make(invocation::CallClient& client,
                                                     invocation::InterfaceInfo const& info,
                                                     std::span<std::byte const> file,
                                                     Instant until);

    FetchPolicy policy_;
    ObjectImage image_;
};

}  // namespace nemesis::services
