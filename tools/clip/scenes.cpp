// Two scenes: spheres that circle over a floor (ray traced), and a shore at sunset.
#include "tools/clip/scenes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace nemesis::clip {
namespace {

constexpr double tau = 2 * std::numbers::pi;

struct Vector {
    double x, y, z;
    friend Vector operator+(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
    friend Vector operator-(Vector a, Vector b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
    friend Vector operator*(Vector a, double k) { return {a.x * k, a.y * k, a.z * k}; }
};
double dot(Vector a, Vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
Vector unit(Vector a) { return a * (1 / std::sqrt(dot(a, a))); }
Vector mix(Vector a, Vector b, double k) { return a * (1 - k) + b * k; }
double smooth(double low, double high, double x) {
    auto const t = std::clamp((x - low) / (high - low), 0.0, 1.0);
    return t * t * (3 - 2 * t);
}

// -- spheres ------------------------------------------------------------------------------------

struct Sphere {
    Vector centre;
    double radius;
    Vector colour;
    double mirror;
};

class Spheres {
public:
    explicit Spheres(double phase) {
        spheres_[0] = {{0, 1.15 + 0.12 * std::sin(tau * phase), 0}, 1.15, {0.95, 0.95, 1.0}, 0.75};
        constexpr Vector colours[5] = {{0.95, 0.30, 0.22},
                                       {0.98, 0.72, 0.18},
                                       {0.20, 0.72, 0.45},
                                       {0.20, 0.50, 0.95},
                                       {0.72, 0.32, 0.85}};
        for (int i = 0; i < 5; i++) {
            auto const angle = tau * (phase + i / 5.0);
            auto const height = 0.5 + 0.55 * std::abs(std::sin(tau * (phase * 2 + i * 0.2)));
            spheres_[std::size_t(i) + 1] = {
                {2.35 * std::cos(angle), height, 2.35 * std::sin(angle)}, 0.5, colours[i], 0.22};
        }
        light_ = unit({-0.6, 1.0, -0.7});
        auto const turn = 0.35 * std::sin(tau * phase);
        eye_ = {6.4 * std::sin(turn), 2.5, -6.4 * std::cos(turn)};
        forward_ = unit(Vector{0, 0.85, 0} - eye_);
        right_ = unit({forward_.z, 0, -forward_.x});
        up_ = {right_.y * forward_.z - right_.z * forward_.y,
               right_.z * forward_.x - right_.x * forward_.z,
               right_.x * forward_.y - right_.y * forward_.x};
        up_ = up_ * -1;
    }

    /// The colour seen at (x, y), both about -1..1.
    Vector at(double x, double y) const {
        return trace(eye_, unit(forward_ + right_ * (x * 0.62) + up_ * (y * 0.62)), 3);
    }

private:
    static Vector sky(Vector d) {
        auto const base =
            mix({0.86, 0.90, 0.96}, {0.16, 0.30, 0.58}, std::pow(std::max(d.y, 0.0), 0.55));
        return base;
    }

    /// Distance to the first sphere, or a negative number.
    double hit(Vector from, Vector d, std::size_t& which) const {
        double best = -1;
        for (std::size_t i = 0; i < spheres_.size(); i++) {
            auto const to = from - spheres_[i].centre;
            auto const b = dot(to, d), c = dot(to, to) - spheres_[i].radius * spheres_[i].radius;
            auto const root = b * b - c;
            if (root <= 0) continue;
            auto const t = -b - std::sqrt(root);
            if (t > 1e-4 && (best < 0 || t < best)) best = t, which = i;
        }
        return best;
    }

    Vector trace(Vector from, Vector d, int depth) const {
        std::size_t which = 0;
        auto const t = hit(from, d, which);
        std::size_t ignored = 0;
        if (t > 0) {
            auto const& s = spheres_[which];
            auto const p = from + d * t;
            auto const n = unit(p - s.centre);
            auto const lit =
                hit(p + n * 1e-3, light_, ignored) > 0 ? 0.0 : std::max(dot(n, light_), 0.0);
            auto colour = s.colour * (0.28 + 0.12 * n.y + 0.75 * lit);
            auto const back = d - n * (2 * dot(d, n));
            if (depth > 0) {
                auto const fresnel = s.mirror + (1 - s.mirror) * 0.5 * std::pow(1 + dot(d, n), 4);
                colour = mix(colour, trace(p + n * 1e-3, back, depth - 1),
                             std::clamp(fresnel, 0.0, 1.0));
            }
            auto const shine = std::pow(std::max(dot(back, light_), 0.0), 60) * (lit > 0 ? 0.9 : 0);
            return colour + Vector{shine, shine, shine};
        }
        if (d.y >= -1e-3) return sky(d);
        auto const far = -from.y / d.y;
        auto const p = from + d * far;
        bool const odd =
            (static_cast<int>(std::floor(p.x)) + static_cast<int>(std::floor(p.z))) & 1;
        auto const shade = hit({p.x, 1e-3, p.z}, light_, ignored) > 0 ? 0.42 : 1.0;
        auto colour = (odd ? Vector{0.90, 0.88, 0.84} : Vector{0.22, 0.25, 0.32}) * shade;
        if (depth > 0)
            colour = mix(colour, trace({p.x, 1e-3, p.z}, {d.x, -d.y, d.z}, depth - 1), 0.16);
        return mix(colour, {0.86, 0.90, 0.96}, smooth(8, 26, far));
    }

    std::array<Sphere, 6> spheres_{};
    Vector light_{}, eye_{}, forward_{}, right_{}, up_{};
};

// -- shore --------------------------------------------------------------------------------------

/// A chain of hills, repeating after 1; as a table, because it is asked for at every pixel.
class Hills {
public:
    explicit Hills(int seed) {
        constexpr int waves[5] = {2, 3, 7, 13, 29};
        for (std::size_t i = 0; i < heights_.size(); i++) {
            double sum = 0;
            for (int k = 0; k < 5; k++) {
                sum += std::sin(tau * (double(i) / size * waves[k] + seed * 0.37 * (k + 1))) /
                       waves[k];
            }
            heights_[i] = 0.5 + 0.5 * sum;
        }
    }
    /// Height at x. 0..1
    double operator()(double x) const {
        auto const at = (x - std::floor(x)) * size;
        auto const i = std::min(static_cast<std::size_t>(at), std::size_t{size - 1});
        return heights_[i] + (heights_[i + 1] - heights_[i]) * (at - double(i));
    }

private:
    static constexpr int size = 2048;
    std::array<double, size + 1> heights_{};
};

class Shore {
public:
    Shore(double phase, double aspect) : phase_(phase), aspect_(aspect) {}

    /// The colour at (x, y): x from 0 to aspect, y from 0 at the top to 1.
    Vector at(double x, double y) const {
        constexpr double horizon = 0.62;
        if (y < horizon) return above(x, y / horizon);
        // Water: the sky upside down, moved by waves that grow towards us.
        auto const depth = (y - horizon) / (1 - horizon);
        auto const wave = std::sin(tau * (18 / (depth + 0.15) * 0.35 - phase_ * 4) + x * 9) * 0.5 +
                          std::sin(tau * (31 / (depth + 0.2) * 0.2 - phase_ * 6) - x * 14) * 0.5;
        auto const seen = above(x + wave * 0.025 * (0.3 + depth),
                                std::clamp(1 - depth * 0.9 + wave * 0.03, 0.0, 1.0));
        auto const glint = std::pow(std::max(0.0, wave), 6) *
                           std::exp(-std::pow((x / aspect_ - 0.62) * 4.5, 2)) * 0.7;
        return mix(seen, {0.03, 0.10, 0.22}, 0.30 + 0.35 * depth) + Vector{1.0, 0.75, 0.45} * glint;
    }

private:
    Vector above(double x, double y) const {
        static Hills const clouds[2] = {Hills(3), Hills(8)},
                           chains[3] = {Hills(1), Hills(6), Hills(11)};
        auto colour = mix({0.10, 0.08, 0.30}, {0.93, 0.42, 0.30}, smooth(0.0, 0.85, y));
        colour = mix(colour, {1.0, 0.80, 0.45}, smooth(0.6, 1.05, y));
        auto const sun_x = aspect_ * 0.62, sun_y = 0.66, radius = 0.19;
        auto const r = std::hypot(x - sun_x, (y - sun_y) * 0.62);
        colour = colour + Vector{0.9, 0.45, 0.2} * (0.5 * std::exp(-r * r * 9));
        if (r < radius)
            colour = mix({1.0, 0.93, 0.62}, {1.0, 0.52, 0.28},
                         smooth(sun_y - radius, sun_y + radius, y));
        // Clouds: long thin bands that drift.
        auto const cloud =
            clouds[0](x / aspect_ * 0.5 + phase_) * std::exp(-std::pow((y - 0.32) * 7, 2)) +
            clouds[1](x / aspect_ * 0.5 + 0.4 + phase_ * 2) *
                std::exp(-std::pow((y - 0.55) * 11, 2));
        colour = mix(colour, {1.0, 0.72, 0.60}, 0.55 * smooth(0.5, 1.0, cloud));
        constexpr Vector tints[3] = {{0.48, 0.24, 0.38}, {0.27, 0.14, 0.30}, {0.10, 0.07, 0.17}};
        for (int layer = 0; layer < 3; layer++) {
            auto const top =
                0.98 - (0.30 - layer * 0.075) *
                           chains[layer](x / aspect_ * (0.5 + layer * 0.25) + phase_ * (layer + 1));
            if (y > top)
                colour =
                    mix(tints[layer], tints[layer] + Vector{0.25, 0.12, 0.05}, smooth(top, 1.1, y));
        }
        return colour;
    }

    double phase_, aspect_;
};

std::uint8_t level(double v) {
    return static_cast<std::uint8_t>(std::lround(255 * std::clamp(v, 0.0, 1.0)));
}

/// Averages `side` x `side` samples a pixel.
template <int side, typename F>
Picture sample(std::uint32_t width, std::uint32_t height, F&& colour_at) {
    Picture picture{width, height, std::vector<std::uint8_t>(std::size_t{width} * height * 3)};
    auto* to = picture.rgb.data();
    for (std::uint32_t y = 0; y < height; y++) {
        for (std::uint32_t x = 0; x < width; x++) {
            Vector sum{};
            for (int i = 0; i < side * side; i++) {
                sum = sum + colour_at(x + (0.5 + i % side) / side, y + (0.5 + i / side) / side);
            }
            sum = sum * (1.0 / (side * side));
            *to++ = level(sum.x);
            *to++ = level(sum.y);
            *to++ = level(sum.z);
        }
    }
    return picture;
}

}  // namespace

bool is_scene(std::string_view name) { return name == "spheres" || name == "shore"; }

Picture paint_scene(std::string_view name, std::uint32_t width, std::uint32_t height,
                    double phase) {
    double const w = width, h = height;
    if (name == "spheres") {
        Spheres const scene(phase);
        return sample<2>(width, height, [&](double x, double y) {
            return scene.at((2 * x - w) / h * 0.92, (h - 2 * y) / h * 0.92);
        });
    }
    Shore const scene(phase, w / h);
    return sample<1>(width, height, [&](double x, double y) { return scene.at(x / h, y / h); });
}

}  // namespace nemesis::clip
