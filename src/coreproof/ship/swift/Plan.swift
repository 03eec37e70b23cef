// Plan: what coreproof wrote about the model, how it is fed, and what it predicted; read from proof.json.

import Foundation

struct Plan: Decodable {
    enum Kind: String, Decodable { case classifier, image, detector, array }
    enum Colour: String, Decodable { case rgb = "RGB", bgr = "BGR", gray = "GRAY" }

    struct Input: Decodable {
        let name: String
        let isImage: Bool
        let shape: [Int]
        let colour: Colour
        let dtype: String
    }

    /// Geometry first, then numbers: value = (pixel * scale - mean) / std.
    struct Feeding: Decodable {
        let width: Int
        let height: Int
        let squash: Bool
        let resizeTo: Int?
        let interpolation: String
        let scale: Float
        let mean: [Float]
        let std: [Float]
        let channelsLast: Bool
    }

    struct Output: Decodable {
        let name: String
        let shape: [Int]
        let isImage: Bool
    }

    /// A bundled photo: the original, the model's own view of it without loss, and what coreproof's runtime answered.
    struct Photo: Decodable, Identifiable {
        let name: String
        let file: String
        let seen: String
        let scores: String?
        let outputs: [String: String]
        var id: String { name }
    }

    let title: String
    let model: String
    let modelFile: String
    let fingerprint: String
    let kind: Kind
    let input: Input
    let feeding: Feeding
    let outputs: [Output]
    let scores: String?
    let probabilities: String?
    let predictedLabel: String?
    let softmax: Bool
    let labels: [String]
    let photos: [Photo]
    let engine: String
    let coreproof: String

    static func load() throws -> Plan {
        try JSONDecoder().decode(Plan.self, from: Data(contentsOf: try resource("proof.json")))
    }

    /// A bundled file. An Xcode project keeps it in the app, a playground in a bundle of its own, folders kept or flattened.
    static func resource(_ path: String) throws -> URL {
        let inner = Bundle.main.urls(forResourcesWithExtension: "bundle", subdirectory: nil) ?? []
        let roots = [Bundle.main.resourceURL].compactMap { $0 } + inner
        let forms = [path, "Resources/\(path)", (path as NSString).lastPathComponent]
        for place in roots.flatMap({ root in forms.map { root.appendingPathComponent($0) } })
        where FileManager.default.fileExists(atPath: place.path) { return place }
        throw Failure("\(path) is not in the app. Make the app again with coreproof.")
    }
}

struct Failure: LocalizedError {
    let errorDescription: String?
    init(_ text: String) { errorDescription = text }
}

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
}
