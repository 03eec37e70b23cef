// Numbers: how they are stored, how two lists of them are compared, and how a dictionary of labels becomes a list of classes.

import Foundation

/// Little-endian 32-bit floats as coreproof writes them: base64 in proof.json and device.json, bare in files.
enum Floats {
    static func decode(_ base64: String) -> [Float]? { Data(base64Encoded: base64).map(decode) }

    static func decode(_ data: Data) -> [Float] {
        let count = data.count / 4
        return data.withUnsafeBytes { bytes in
            (0..<count).map { i in
                Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)))
            }
        }
    }

    static func encode(_ values: [Float]) -> String {
        var data = Data(capacity: 4 * values.count)
        for value in values { withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) } }
        return data.base64EncodedString()
    }

    static func softmax(_ scores: [Float]) -> [Float] {
        guard let highest = scores.max() else { return [] }
        let powers = scores.map { exp(Double($0 - highest)) }
        let sum = powers.reduce(0, +)
        return powers.map { Float($0 / sum) }
    }

    /// The first of the largest values, as numpy's argmax.
    static func best(_ values: [Float]) -> Int {
        var place = 0
        for i in values.indices where values[i] > values[place] { place = i }
        return place
    }
}

/// IEEE binary16 by its bits: Swift's own type is missing where the simulator runs on an Intel Mac.
enum Half {
    static func float(_ bits: UInt16) -> Float {
        let (sign, exponent, fraction) = (bits >> 15, Int(bits >> 10) & 0x1f, Float(bits & 0x3ff))
        let size: Float
        switch exponent {
        case 0: size = fraction * Float(sign: .plus, exponent: -24, significand: 1)
        case 31: size = fraction == 0 ? .infinity : .nan
        default: size = (1 + fraction / 1024) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
        }
        return sign == 1 ? -size : size
    }

    /// Rounded to nearest, ties to even.
    static func bits(_ value: Float) -> UInt16 {
        let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
        if value.isNaN { return 0x7e00 }
        let size = value.magnitude
        if size >= 65520 { return sign | 0x7c00 }
        let exponent = size == 0 ? -14 : max(-14, Int(size.exponent))
        let step = Float(sign: .plus, exponent: exponent - 10, significand: 1)
        // a fraction that rounds up to 1024 or 2048 carries into the exponent by itself
        let steps = UInt16((size / step).rounded(.toNearestOrEven))
        return sign | (exponent == -14 ? steps : UInt16(exponent + 14) << 10 + steps)
    }
}

/// How far answers lie from what was expected, over everything that was compared.
struct Difference: Sendable {
    private(set) var largest: Float = 0
    private(set) var compared = 0
    private var squares = 0.0
    private var scale = 0.0

    /// The root mean square of the differences as a share of that of the expected values.
    var typical: Double {
        guard squares > 0 else { return squares.isNaN ? .infinity : 0 }
        return scale > 0 ? (squares / scale).squareRoot() : .infinity
    }

    /// False where the two are not of the same length: nothing is added then.
    mutating func add(_ here: [Float], expected: [Float]) -> Bool {
        guard here.count == expected.count else { return false }
        for (a, b) in zip(here, expected) where a != b && !(a.isNaN && b.isNaN) {
            let off = a - b
            largest = max(largest, off.isNaN ? .infinity : abs(off))
            squares += Double(off) * Double(off)
        }
        for b in expected where b.isFinite { scale += Double(b) * Double(b) }
        compared += here.count
        return true
    }
}

/// Core ML answers with a dictionary of labels. Classes that share a label ("crane", bird and machine) are one entry there.
struct Classes: Sendable {
    private let groups: [String: [Int]]
    private let count: Int

    init(_ labels: [String]) {
        groups = Dictionary(grouping: labels.indices) { labels[$0] }
        count = labels.count
    }

    /// One score a class. A shared label's score goes to the class that ``expected`` finds likeliest, else to the first; the
    /// others of the label get ``nothing``: what the model said of them cannot be told.
    func scores(_ value: (String) -> Float?, expected: [Float]? = nil, nothing: Float = 0) -> [Float] {
        var scores = [Float](repeating: nothing, count: count)
        for (label, members) in groups {
            guard let first = members.first, let score = value(label) else { continue }
            let known = expected.flatMap { $0.count == count ? $0 : nil }
            scores[known.map { known in members.max { known[$0] < known[$1] } ?? first } ?? first] = score
        }
        return scores
    }

    /// The expected probabilities as far as the dictionary tells them. ``whole``: scaled to sum 1 again, as a softmax over what
    /// the dictionary holds is.
    func telling(_ expected: [Float], whole: Bool) -> [Float] {
        guard expected.count == count else { return expected }
        let told = scores({ label in groups[label]?.map { expected[$0] }.max() }, expected: expected)
        let sum = told.reduce(0, +)
        return whole && sum > 0 ? told.map { $0 / sum } : told
    }
}
