#include "libnemesis/invocation/connection_handles.h"

namespace nemesis::invocation {

Result<WireHandle, Failure> ConnectionHandles::give(AnyMaillon handle, InterfaceInfo const& info) {
    auto* const interface = TRY(handle.resolve());
    if (interface == nullptr) return fail(Failure::Unreachable);
    if (!carries(info)) return fail(Failure::TooLong);
    for (Import const& i : imports_) {
        if (i.info != nullptr && i.interface == interface)
            return WireHandle{HandleOwner::Receiver, i.number, info.hash.low};
    }
    Export* free = nullptr;
    for (std::uint32_t n = 1; n < exports_.size(); ++n) {
        auto& e = exports_[n];
        if (e.object == interface && e.info == &info) {
            ++e.references;
            return WireHandle{HandleOwner::Sender, n, info.hash.low};
        }
        if (e.object == nullptr && free == nullptr) free = &e;
    }
    if (free == nullptr) return fail(Failure::NoMemory);
    *free = {interface, &info, 1};
    return WireHandle{HandleOwner::Sender, static_cast<std::uint32_t>(free - exports_.data()),
                      info.hash.low};
}

Result<AnyMaillon, Failure> ConnectionHandles::take(WireHandle const& wire,
                                                    InterfaceInfo const& info) {
    if (wire.hash != info.hash.low) return fail(Failure::WrongInterface);
    if (wire.owner == HandleOwner::Receiver) {
        auto const* own = find(wire.number);
        if (own == nullptr) return fail(Failure::NoSuchObject);
        // One of an extension is as good only as that: the pointers differ in meaning.
        if (own->info->hash != info.hash) return fail(Failure::WrongInterface);
        return AnyMaillon(own->object, nullptr);
    }
    if (wire.owner != HandleOwner::Sender) return fail(Failure::NoSuchObject);
    Import* free = nullptr;
    for (Import& i : imports_) {
        if (i.info == nullptr) {
            if (free == nullptr) free = &i;
        } else if (i.number == wire.number) {
            if (i.info->hash != info.hash) return fail(Failure::WrongInterface);
            if (i.references == UINT32_MAX) return fail(Failure::NoMemory);
            ++i.references;
            return AnyMaillon(i.interface, nullptr);
        }
    }
    if (free == nullptr || info.proxy_bytes > sizeof(free->proxy) || transport_ == nullptr)
        return fail(Failure::NoMemory);
    free->info = &info;
    free->number = wire.number;
    free->references = 1;
    free->interface = info.make_proxy(free->proxy, *transport_, wire.number);
    return AnyMaillon(free->interface, nullptr);
}

void ConnectionHandles::forget(Export& e) {
    auto* const object = e.object;
    e = {};
    if (object != nullptr && hook_.function != nullptr) hook_.function(hook_.self, object);
}

void ConnectionHandles::released(std::uint32_t number, std::uint64_t count) {
    if (number == 0 || find(number) == nullptr) return;
    auto& e = exports_[number];
    if (count < e.references)
        e.references -= count;
    else
        forget(e);
}

Result<Export, Failure> ConnectionHandles::drop(AnyMaillon const& handle, std::uint32_t& number) {
    for (Import& i : imports_) {
        if (i.info == nullptr || !handle.is_direct() || i.interface != handle.reference()) continue;
        Export const told{i.interface, i.info, i.references};
        number = i.number;
        i.info = nullptr;
        return told;
    }
    return fail(Failure::NoSuchObject);
}

void ConnectionHandles::end() {
    for (Export& e : exports_) forget(e);
    for (Import& i : imports_) i.info = nullptr;
}

std::uint32_t ConnectionHandles::exported() const {
    std::uint32_t n = 0;
    for (Export const& e : exports_) n += e.object != nullptr ? 1 : 0;
    return n;
}
std::uint32_t ConnectionHandles::imported() const {
    std::uint32_t n = 0;
    for (Import const& i : imports_) n += i.info != nullptr ? 1 : 0;
    return n;
}

}  // namespace nemesis::invocation
